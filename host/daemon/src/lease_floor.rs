//! The highest epoch of the town's lease that this disk knows: `lease.json` in the state directory.
//!
//! A register that was emptied, or restored from a backup, would give numbers again that were used here.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

const NAME: &str = "lease.json";
const NEW: &str = "lease.json.new";

/// Where it is kept, and of which town.
#[derive(Debug, Clone)]
pub struct LeaseFloor {
    /// The state directory.
    pub dir: PathBuf,
    /// The town's name in the register.
    pub town: String,
}

#[derive(Serialize, Deserialize)]
struct Content {
    town: String,
    epoch: u64,
}

impl LeaseFloor {
    /// The epoch. 0: none is known. What is damaged, or of another town, counts as none.
    pub fn read(&self) -> u64 {
        let bytes = fs::read(self.dir.join(NAME)).unwrap_or_default();
        let content: Option<Content> = serde_json::from_slice(&bytes).ok();
        content.filter(|content| content.town == self.town).map_or(0, |content| content.epoch)
    }

    /// Keeps a higher one.
    pub fn raise(&self, epoch: u64) -> io::Result<()> {
        if epoch <= self.read() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let new = self.dir.join(NEW);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let content = Content { town: self.town.clone(), epoch };
        file.write_all(&serde_json::to_vec(&content)?)?;
        file.sync_all()?;
        fs::rename(&new, self.dir.join(NAME))?;
        File::open(&self.dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_epoch_of_this_town_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let of = |town: &str| LeaseFloor { dir: dir.path().join("state"), town: town.into() };
        assert_eq!(of("hill").read(), 0);
        for (epoch, kept) in [(3, 3), (2, 3), (7, 7)] {
            of("hill").raise(epoch).unwrap();
            assert_eq!(of("hill").read(), kept);
        }
        assert_eq!(of("lake").read(), 0);
        fs::write(dir.path().join("state").join(NAME), "{\"town\":").unwrap();
        assert_eq!(of("hill").read(), 0);
        of("hill").raise(8).unwrap();
        assert_eq!(of("hill").read(), 8);
    }
}
