//! What the memory begins with, by addresses.

use std::collections::BTreeMap;

#[derive(Default)]
pub struct Image {
    /// By where they begin.
    segments: BTreeMap<u32, Vec<u8>>,
}

impl Image {
    /// Whether there was nothing yet.
    pub fn add(&mut self, address: u32, data: &[u8]) -> bool {
        let is_new = !self.segments.contains_key(&address);
        self.segments.entry(address).or_insert_with(|| data.to_vec());
        is_new
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
