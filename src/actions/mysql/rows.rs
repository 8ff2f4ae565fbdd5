//! What the databases hold, counted: before and after, so that nothing is lost unseen.

use super::client::{Client, name, row, text};
use crate::actions::StepContext;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Databases that belong to the server itself.
const OWN: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// Names in the error of a comparison before it says how many more there are.
const NAMED: usize = 10;

/// Rows of every table, and how many views, routines, triggers and events every database has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rows(BTreeMap<String, u64>);

/// The databases of a server that are not its own, in order.
pub(super) fn databases(cx: &StepContext<'_>, client: &Client<'_>) -> Result<Vec<String>> {
    let rows = client.ask(cx, "databases", &row("SCHEMA_NAME", "FROM information_schema.SCHEMATA"))?;
    let mut names: Vec<String> = rows.into_iter().filter_map(|row| row.into_iter().next()).collect();
    names.retain(|name| !OWN.iter().any(|own| own.eq_ignore_ascii_case(name)));
    names.sort();
    Ok(names)
}

/// About how many bytes the tables of databases take.
pub(super) fn bytes(cx: &StepContext<'_>, client: &Client<'_>, databases: &[String]) -> Result<u64> {
    let from = format!("FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({})", list(databases));
    let rows = client.ask(cx, "size", &row("CAST(COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH), 0) AS UNSIGNED)", &from))?;
    Ok(rows.first().and_then(|row| row.first()?.parse().ok()).unwrap_or(0))
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "NULL".to_owned();
    }
    names.iter().map(|n| text(n)).collect::<Vec<_>>().join(", ")
}

impl Rows {
    /// Counts. Every table is read, so it takes as long as they are large.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(super) fn count(cx: &StepContext<'_>, client: &Client<'_>, databases: &[String]) -> Result<Self> {
        let within = list(databases);
        let from = format!("FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA IN ({within})");
        let tables = client.ask(cx, "tables", &row("TABLE_SCHEMA, TABLE_NAME", &from))?;
        let tables: Vec<(&String, &String)> = tables.iter().filter_map(|row| Some((row.first()?, row.get(1)?))).collect();
        let questions = tables.iter().enumerate().map(|(number, (database, table))| {
            row(&format!("{number}, COUNT(*)"), &format!("FROM {}.{}", name(database), name(table)))
        });
        let mut counted = BTreeMap::new();
        for answer in client.read(cx, "count", &questions.collect::<String>())? {
            let number = |at: usize| answer.get(at).and_then(|n| n.parse::<u64>().ok());
            let table = number(0).and_then(|n| tables.get(usize::try_from(n).ok()?));
            let (Some((database, table)), Some(rows)) = (table, number(1)) else {
                return Err(Error::step_failed("the server's answer to a count is none").because(answer.join(" ")));
            };
            counted.insert(format!("{database}.{table}"), rows);
        }
        if let Some((database, table)) = tables.iter().find(|(d, t)| !counted.contains_key(&format!("{d}.{t}"))) {
            return Err(Error::step_failed(format!("the table {database}.{table} was not counted")));
        }
        for (kind, schema) in [
            ("VIEWS", "TABLE_SCHEMA"),
            ("ROUTINES", "ROUTINE_SCHEMA"),
            ("TRIGGERS", "TRIGGER_SCHEMA"),
            ("EVENTS", "EVENT_SCHEMA"),
        ] {
            let from = format!("FROM information_schema.{kind} WHERE {schema} IN ({within}) GROUP BY {schema}");
            for answer in client.ask(cx, "objects", &row(&format!("{schema}, COUNT(*)"), &from))? {
                if let (Some(database), Some(count)) = (answer.first(), answer.get(1).and_then(|n| n.parse().ok())) {
                    counted.insert(format!("the {} of {database}", kind.to_lowercase()), count);
                }
            }
        }
        Ok(Self(counted))
    }

    /// How many tables there are, and rows in them.
    pub(super) fn totals(&self) -> (usize, u64) {
        let tables = self.0.iter().filter(|(what, _)| !what.starts_with("the "));
        tables.fold((0, 0), |(tables, rows), (_, count)| (tables + 1, rows + count))
    }

    /// For the step's result: rows by table.
    pub(super) fn by_table(&self) -> &BTreeMap<String, u64> {
        &self.0
    }

    /// Leaves out databases that an earlier count does not have at all.
    pub(super) fn only_of(&mut self, earlier: &Self) {
        let known: std::collections::BTreeSet<String> = earlier.0.keys().map(|what| database_of(what).to_owned()).collect();
        self.0.retain(|what, _| known.contains(database_of(what)));
    }

    /// That what was there is there again, no more and no less.
    ///
    /// # Errors
    /// With the names of what differs.
    pub(super) fn expect_same(&self, now: &Self) -> Result<()> {
        let all: std::collections::BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        let differ: Vec<String> = all
            .into_iter()
            .filter(|what| self.0.get(*what) != now.0.get(*what))
            .map(|what| format!("{what}: {} before, {} now", shown(self.0.get(what)), shown(now.0.get(what))))
            .collect();
        if differ.is_empty() {
            return Ok(());
        }
        let mut named: Vec<String> = differ.iter().take(NAMED).cloned().collect();
        if differ.len() > NAMED {
            named.push(format!("and {} more", differ.len() - NAMED));
        }
        Err(Error::step_failed(format!("the new server does not hold what the old one held: {}", differ[0]))
            .with_output(named)
            .next("see that nothing writes to the databases meanwhile; the old server and its data come back"))
    }
}

/// The database of a table, or of `the views of` one.
fn database_of(what: &str) -> &str {
    match what.strip_prefix("the ").and_then(|rest| rest.split_once(" of ")) {
        Some((_, database)) => database,
        None => what.split('.').next().unwrap_or(what),
    }
}

fn shown(count: Option<&u64>) -> String {
    count.map_or_else(|| "nothing".to_owned(), u64::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(all: &[(&str, u64)]) -> Rows {
        Rows(all.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect())
    }

    #[test]
    fn what_is_lost_or_new_is_named() {
        let before = rows(&[("archive.sample", 10), ("iocdb.iocs", 3), ("the views of archive", 1)]);
        assert!(before.expect_same(&before.clone()).is_ok());
        assert_eq!(before.totals(), (2, 13));
        let error = before.expect_same(&rows(&[("archive.sample", 9), ("iocdb.iocs", 3), ("iocdb.new", 0)])).unwrap_err();
        assert_eq!(
            error.details().output,
            [
                "archive.sample: 10 before, 9 now",
                "iocdb.new: nothing before, 0 now",
                "the views of archive: 1 before, nothing now"
            ]
        );
    }
}
