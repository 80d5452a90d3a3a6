//! What the memory begins with, by addresses.

use std::collections::BTreeMap;

#[derive(Default)]
pub struct Image {
    /// By where they begin. None overlaps another.
    segments: BTreeMap<u32, Vec<u8>>,
}

impl Image {
    /// `None`: there is something at one of these addresses already.
    pub fn add(&mut self, address: u32, data: &[u8]) -> Option<()> {
        let end = |start: u32, data: &[u8]| u64::from(start) + data.len() as u64;
        let before = self.segments.range(..=address).next_back();
        let behind = self.segments.range(address..).next();
        let is_free = before.is_none_or(|(start, data)| end(*start, data) <= address.into())
            && behind.is_none_or(|(start, _)| end(address, data) <= (*start).into());
        is_free.then(|| drop(self.segments.insert(address, data.to_vec())))
    }

    pub fn segments(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.segments.iter().map(|(address, data)| (*address, data.as_slice()))
    }

    /// Four bytes, little endian. What no segment has is 0.
    pub fn word(&self, address: u32) -> u32 {
        let byte = |offset| self.byte(address.wrapping_add(offset)).copied().unwrap_or(0);
        u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
    }

    /// Whether there is room in the segments for what is not 0.
    #[must_use]
    pub fn set_word(&mut self, address: u32, value: u32) -> bool {
        let bytes = (0..)
            .zip(value.to_le_bytes())
            .map(|(offset, byte)| (address.wrapping_add(offset), byte));
        if bytes.clone().any(|(at, byte)| byte != 0 && self.byte(at).is_none()) {
            return false;
        }
        for (at, byte) in bytes {
            if let Some(segment) = self.segments.range_mut(..=at).next_back()
                && let Some(place) = segment.1.get_mut((at - segment.0) as usize)
            {
                *place = byte;
            }
        }
        true
    }

    /// There is room for zeros everywhere.
    pub fn clear_word(&mut self, address: u32) {
        let _ = self.set_word(address, 0);
    }

    /// Where the pattern is, each time.
    pub fn find(&self, pattern: &[u8]) -> Vec<u32> {
        let in_one = |(address, data): (u32, &[u8])| {
            data.windows(pattern.len())
                .enumerate()
                .filter(|(_, window)| *window == pattern)
                .map(|(at, _)| address + at as u32)
                .collect::<Vec<_>>()
        };
        self.segments().flat_map(in_one).collect()
    }

    fn byte(&self, address: u32) -> Option<&u8> {
        let (start, data) = self.segments.range(..=address).next_back()?;
        data.get((address - start) as usize)
    }
}
