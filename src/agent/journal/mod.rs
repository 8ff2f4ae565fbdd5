//! The journal of a run at the instrument: what happened and how to take it back, one checked line each.

mod entry;
mod reader;
mod writer;

pub use entry::{Body, Entry};
pub use reader::{Loaded, is_over, parse, read};
pub use writer::Writer;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::UndoRecord;
    use crate::actions::command::Command;
    use crate::error::Result;
    use crate::events::EventKind;
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn bodies() -> Vec<Body> {
        vec![
            Body::Event(EventKind::Note { text: "one\ntwo".into() }),
            Body::Intend { step: "apply.01.command".into(), record: UndoRecord::Command(Command::default()) },
            Body::Registered { name: "x".into(), value: serde_json::json!({"a": [1, "b"]}) },
            Body::Undone { of: 2, run: None, left: vec!["C:\\x".into()] },
            Body::Quiet { step: "apply.01.command".into() },
            Body::Cancel { now: false },
            Body::AnswerYes,
            Body::UndoneBy { run: crate::events::RunId("r".into()) },
            Body::Versions { before: [("EPICS".to_owned(), "12.0.1".to_owned())].into() },
        ]
    }

    fn written() -> Result<(tempfile::TempDir, Vec<u8>)> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut writer, _) = Writer::open(folder.path())?;
        for body in bodies() {
            writer.append(Timestamp::UNIX_EPOCH, body, true)?;
        }
        let bytes = std::fs::read(folder.path().join("journal.jsonl")).expect("the journal");
        Ok((folder, bytes))
    }

    #[test]
    fn what_is_written_is_read() -> Result<()> {
        let (_folder, bytes) = written()?;
        let loaded = parse(&bytes);
        assert_eq!(loaded.damage, Vec::<String>::new());
        assert_eq!(loaded.entries.iter().map(|e| e.body.clone()).collect::<Vec<_>>(), bodies());
        assert_eq!(loaded.entries.iter().map(|e| e.n).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
        Ok(())
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_the_journal_goes_on() -> Result<()> {
        let (folder, bytes) = written()?;
        let path = folder.path().join("journal.jsonl");
        std::fs::write(&path, &bytes[..bytes.len() - 3]).expect("write");
        let (mut writer, loaded) = Writer::open(folder.path())?;
        assert_eq!(loaded.entries.len(), 8);
        assert_eq!(loaded.damage, Vec::<String>::new());
        assert_eq!(writer.append(Timestamp::UNIX_EPOCH, Body::AnswerYes, true)?, 9);
        assert_eq!(read(&path)?.entries.len(), 9);
        Ok(())
    }

    #[test]
    fn a_journal_of_an_open_run_that_lost_an_intent_is_damaged() -> Result<()> {
        let (folder, bytes) = written()?;
        let path = folder.path().join("journal.jsonl");
        let last = parse(&bytes).entries.iter().filter(|e| matches!(e.body, Body::Intend { .. })).map(|e| e.n).max();
        let last = last.expect("an intent");
        std::fs::write(&path, "").expect("write");
        assert_eq!(read(&path)?.damage, [format!("entries 1 to {last} of the journal are lost")]);
        Ok(())
    }

    #[test]
    fn damage_in_the_middle_is_named() -> Result<()> {
        let (_folder, mut bytes) = written()?;
        let at = bytes.windows(8).position(|w| w == b"apply.01").expect("the intention");
        bytes[at] = b'x';
        let loaded = parse(&bytes);
        assert_eq!(loaded.entries.len(), 8);
        assert_eq!(
            loaded.damage,
            ["line 2 of the journal is lost: its checksum does not match", "entries 2 to 2 of the journal are lost"]
        );
        Ok(())
    }

    proptest! {
        #[test]
        fn a_cut_loses_only_what_was_cut(cut in 0_usize..4000) {
            let (_folder, bytes) = written().expect("a journal");
            let cut = cut.min(bytes.len());
            let loaded = parse(&bytes[..cut]);
            let whole = bytes[..cut].iter().filter(|b| **b == b'\n').count();
            prop_assert_eq!(loaded.entries.len(), whole);
            prop_assert!(loaded.damage.is_empty());
        }

        #[test]
        fn a_flipped_byte_loses_at_most_the_lines_it_touches(at in 0_usize..4000, flip in 1_u8..=255) {
            let (_folder, mut bytes) = written().expect("a journal");
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let loaded = parse(&bytes);
            prop_assert!(loaded.entries.len() >= bodies().len() - 2);
            let intact = parse(&bytes).entries.into_iter().filter(|e| bodies().contains(&e.body)).count();
            prop_assert_eq!(intact, loaded.entries.len(), "what is read is what was written");
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let loaded = parse(&bytes);
            prop_assert!(loaded.whole <= bytes.len() as u64);
        }
    }
}
