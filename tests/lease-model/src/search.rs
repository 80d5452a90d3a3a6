//! Goes through all states of a world, the nearest first.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

/// A world at one moment.
pub trait World: Clone + Hash {
    /// What may happen next.
    type Action: Clone + Debug;

    /// Everything that may happen next.
    fn actions(&self) -> Vec<Self::Action>;

    /// What comes of it; `None`: nothing. An error says what must not be.
    fn after(&self, action: &Self::Action) -> Result<Option<Self>, String>;
}

/// What came of a search.
#[derive(Debug)]
pub struct Found {
    /// How many states there are.
    pub states: usize,
    /// What must not be and is, with what happened before.
    pub violation: Option<String>,
}

/// States are known by a hash of 64 bits. That two of ten millions have the same one has a chance of three in a million,
/// and then one of them is not looked at.
type Mixing = BuildHasherDefault<Mix>;

/// Multiplies and folds, as wyhash does: hashing is most of the work, and nobody attacks it.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word) ^ (chunk.len() as u64) << 56);
        }
    }

    fn write_u64(&mut self, word: u64) {
        let mixed =
            u128::from(self.0 ^ 0xa076_1d64_78bd_642f) * u128::from(word ^ 0xe703_7ed1_a0b4_28db);
        self.0 = (mixed >> 64) as u64 ^ mixed as u64 ^ self.0.rotate_left(23);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Goes through all states. With `traced` a violation comes with what happened before it, at the cost of memory.
pub fn search<W: World>(first: W, traced: bool) -> Found {
    let hash = |world: &W| Mixing::default().hash_one(world);
    // Where a state came from: the state before, and which of its actions.
    let mut from: HashMap<u64, (u64, usize), Mixing> = HashMap::default();
    let mut known: HashSet<u64, Mixing> = HashSet::from_iter([hash(&first)]);
    let mut now = vec![(hash(&first), first.clone())];
    while !now.is_empty() {
        let mut soon = Vec::new();
        for (id, world) in now {
            for (index, action) in world.actions().iter().enumerate() {
                let after = match world.after(action) {
                    Ok(Some(after)) => after,
                    Ok(None) => continue,
                    Err(what) => {
                        let mut path = path_to(&first, id, &from);
                        path.push(format!("{action:?}"));
                        let violation = Some(format!("{what}\n  {}", path.join("\n  ")));
                        return Found { states: known.len(), violation };
                    }
                };
                let after_id = hash(&after);
                if known.insert(after_id) {
                    if traced {
                        from.insert(after_id, (id, index));
                    }
                    soon.push((after_id, after));
                }
            }
        }
        now = soon;
    }
    Found { states: known.len(), violation: None }
}

/// What happened until this state.
fn path_to<W: World>(
    first: &W,
    mut id: u64,
    from: &HashMap<u64, (u64, usize), Mixing>,
) -> Vec<String> {
    let mut steps = Vec::new();
    while let Some((before, index)) = from.get(&id) {
        steps.push(*index);
        id = *before;
    }
    let mut world = first.clone();
    let mut path = Vec::new();
    for index in steps.into_iter().rev() {
        let action = world.actions().swap_remove(index);
        path.push(format!("{action:?}"));
        world = world.after(&action).unwrap().unwrap();
    }
    path
}
