//! Rows that an earlier run knew on another disk.

use bulkhead_types::{AgentId, Incarnation};

use super::{AgentRow, Dirty, Entry, Image};

impl Image {
    /// Goes on with rows from elsewhere: those that are not known here, and of the others the higher number and the newer
    /// history. Returns the ids of both. Agents of which nobody knows anything go on after `forgotten`.
    pub fn adopt(&mut self, rows: Vec<AgentRow>, forgotten: Incarnation) -> Vec<AgentId> {
        self.forgotten = self.forgotten.max(forgotten);
        let mut adopted = Vec::new();
        for row in rows {
            let (id, is_full) = (row.id.clone(), self.rows.len() >= self.max_rows);
            match self.rows.get_mut(&id) {
                None if is_full => {
                    self.forgotten = self.forgotten.max(row.incarnation);
                    continue;
                }
                None => {
                    self.newest = self.newest.max(row.changed_at);
                    self.rows.insert(id.clone(), Entry::new(row));
                }
                Some(Entry { row: known, .. }) if known.incarnation < row.incarnation => {
                    known.incarnation = row.incarnation;
                    if row.changed_at > known.changed_at {
                        known.restarts = row.restarts;
                    }
                }
                Some(_) => continue,
            }
            self.dirty.insert(id.clone(), Dirty { gone: false, texts: true, urgent: true });
            adopted.push(id);
        }
        self.urgent |= !adopted.is_empty();
        self.members += 1;
        adopted
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_types::{RestartState, Timestamp};

    use super::super::{Change, TownKnows, Wanted};
    use super::*;

    fn row(id: &str, number: u64, streak: u32, changed_at: i64) -> AgentRow {
        AgentRow {
            id: AgentId::parse(id).unwrap(),
            wanted: Wanted::Failed,
            incarnation: Incarnation(number),
            order: None,
            settings: None,
            restarts: RestartState { streak, ..RestartState::default() }.into(),
            changed_at: Timestamp(changed_at),
            town_knows: TownKnows::No,
        }
    }

    fn of(image: &Image, id: &str) -> (u64, u32) {
        let row = image.row(&AgentId::parse(id).unwrap()).unwrap();
        (row.incarnation.0, row.restarts.streak)
    }

    #[test]
    fn the_higher_number_and_the_newer_history_count() {
        let mut image = Image::new(10);
        image.load(
            vec![row("old", 5, 1, 10), row("new", 500, 2, 90), row("both", 5, 3, 90)],
            Incarnation(7),
            0,
        );
        let adopted = image.adopt(
            vec![
                row("old", 50, 4, 50),
                row("new", 50, 5, 50),
                row("both", 50, 6, 50),
                row("unknown", 60, 7, 50),
            ],
            Incarnation(1000),
        );
        let adopted: Vec<_> = adopted.iter().map(AgentId::as_str).collect();
        assert_eq!(adopted, ["old", "both", "unknown"]);
        assert_eq!((of(&image, "old"), of(&image, "new")), ((50, 4), (500, 2)));
        assert_eq!((of(&image, "both"), of(&image, "unknown")), ((50, 3), (60, 7)));
        assert_eq!(image.forgotten(), Incarnation(1000));
        assert_eq!(image.take(false).len(), 3, "written at once");
        // What comes of it counts on from there.
        let id = AgentId::parse("unknown").unwrap();
        image.change(&id, Change::Returned { incarnation: Incarnation(61) }, Timestamp(99), false);
        assert_eq!(of(&image, "unknown"), (61, 7));
    }

    #[test]
    fn agents_without_room_are_counted_in() {
        let mut image = Image::new(1);
        assert_eq!(
            image.adopt(vec![row("a", 5, 0, 1), row("b", 70, 0, 1)], Incarnation(2)).len(),
            1
        );
        assert_eq!(image.forgotten(), Incarnation(70));
    }
}
