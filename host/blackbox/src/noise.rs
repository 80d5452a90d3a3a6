//! Any bytes as a black box. For tests and fuzzing: nothing comes of it.

use super::layout::{Area, Geometry, make_sound as make_header_sound};
use super::read::parse;
use super::slot;

/// Small, so that random bytes reach every part of it.
const GEOMETRY: Geometry = Geometry { in_flight: 2, container: 3, agents: 4 };

/// Reads bytes as they are, and as the contents of a file whose checksums are right: from its beginning on, and from its
/// first slot on, which few bytes would not reach.
pub fn read_any(bytes: &[u8]) {
    let _ = parse(bytes);
    for from in [0, GEOMETRY.slot_bytes(Area::InFlight, 0).start] {
        let mut file = vec![0; GEOMETRY.bytes()];
        let length = bytes.len().min(file.len() - from);
        file[from..from + length].copy_from_slice(&bytes[..length]);
        read_sound(file);
    }
}

fn read_sound(mut file: Vec<u8>) {
    make_header_sound(&mut file, &GEOMETRY);
    for area in [Area::InFlight, Area::Container, Area::Agents] {
        for index in 0..GEOMETRY.slots(area) {
            slot::make_sound(&mut file[GEOMETRY.slot_bytes(area, index)]);
        }
    }
    if let Ok(previous) = parse(&file) {
        previous.records.iter().for_each(|record| _ = record.fact());
    }
}
