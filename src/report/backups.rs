//! The backups of instruments, for people.

use super::text::{clean, count, size};
use super::{Column, Screen, Table, Verbosity};
use crate::actions::backup::catalogue::{BackupRecord, BackupState};
use crate::error::Error;
use serde::Serialize;
use std::fmt::Write;

/// One instrument's answer to `backup --list`.
#[derive(Debug, Serialize)]
pub struct BackupRow {
    pub instrument: String,
    pub host: String,
    /// The newest first.
    pub backups: Vec<BackupRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

/// A row for each backup, then what is wrong with any of them; with `verbose` each zip as well.
pub fn backups(rows: &[BackupRow], verbose: Verbosity, screen: Screen) -> String {
    let mut table = Table::new(vec![
        Column::new("INSTRUMENT"),
        Column::new("BACKUP"),
        Column::new("MADE (UTC)").spare(2),
        Column::new("STATE"),
        Column::new("VERSION").cut(),
        Column::new("HOLDS").cut().spare(3),
        Column::new("SIZE").right().spare(1),
    ]);
    for row in rows {
        for backup in &row.backups {
            table.row(cells(row, backup));
        }
        if row.backups.is_empty() {
            let none = if row.error.is_some() { "no answer, see below" } else { "none" };
            table.row([row.instrument.as_str(), none]);
        }
    }
    let mut text = table.render(screen);
    for row in rows {
        for backup in &row.backups {
            text.push_str(&details(row, backup, verbose));
        }
        if let Some(error) = &row.error {
            text.push_str(&super::error(error, screen));
        }
    }
    text
}

fn cells(row: &BackupRow, backup: &BackupRecord) -> [String; 7] {
    let server = backup.zips.iter().find(|z| z.place.as_deref() == Some("server"));
    let version = server.or(backup.zips.first()).and_then(|z| z.version.clone()).unwrap_or_default();
    let holds: Vec<&str> =
        backup.zips.iter().map(|z| z.place.as_deref().unwrap_or_else(|| z.zip.trim_end_matches(".zip"))).collect();
    [
        row.instrument.clone(),
        clean(&backup.name).into_owned(),
        backup.made.map(|at| at.strftime("%Y-%m-%d %H:%M").to_string()).unwrap_or_default(),
        backup.state.word().to_owned(),
        clean(&version).into_owned(),
        clean(&holds.join(", ")).into_owned(),
        size(backup.zips.iter().map(|z| z.zip_bytes).sum()),
    ]
}

fn details(row: &BackupRow, backup: &BackupRecord, verbose: Verbosity) -> String {
    let mut text = String::new();
    let who = format!("{}: {}", row.instrument, backup.name);
    // Writing into a string cannot fail.
    if backup.state == BackupState::Damaged {
        let _ = writeln!(text, "{}: damaged: {}", clean(&who), clean(backup.problem.as_deref().unwrap_or("unknown")));
    }
    for zip in &backup.zips {
        if zip.unreadable > 0 {
            let lost = count(usize::try_from(zip.unreadable).unwrap_or(usize::MAX), "file");
            let _ = writeln!(text, "{}: {} lacks {lost} that could not be read", clean(&who), clean(&zip.zip));
        }
        if verbose > 0 {
            let files = zip.files.map_or_else(String::new, |n| format!("{}, ", count(n as usize, "file")));
            let version = zip.version.as_ref().map_or_else(String::new, |v| format!(", version {v}"));
            let of = zip.folder.as_ref().map_or_else(String::new, |f| format!(" of {f}"));
            let line = format!("{}\\{}{of}: {files}{}{version}", backup.folder, zip.zip, size(zip.zip_bytes));
            let _ = writeln!(text, "{}: {}", clean(&row.instrument), clean(&line));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::backup::catalogue::ZipRecord;
    use crate::error::ErrorKind;
    use crate::paths::WinPath;
    use insta::assert_snapshot;

    fn zip(name: &str, place: Option<&str>, version: Option<&str>, unreadable: u64) -> ZipRecord {
        ZipRecord {
            zip: name.to_owned(),
            zip_bytes: 1_500_000,
            place: place.map(str::to_owned),
            folder: place.map(|p| WinPath::parse(&format!("C:\\Instrument\\{p}")).unwrap()),
            version: version.map(str::to_owned),
            files: place.map(|_| 113),
            bytes: place.map(|_| 4_000_000),
            hash: None,
            unreadable,
        }
    }

    fn backup(name: &str, state: BackupState, zips: Vec<ZipRecord>) -> BackupRecord {
        BackupRecord {
            name: name.to_owned(),
            folder: WinPath::parse(&format!("C:\\data\\old\\{name}")).unwrap(),
            state,
            problem: (state == BackupState::Damaged).then(|| "EPICS.zip is missing".to_owned()),
            made: Some("2026-11-28T14:03:00Z".parse().unwrap()),
            verified: None,
            run: None,
            zips,
        }
    }

    #[test]
    fn all_kinds_of_backups_stand_in_one_table() {
        let good =
            vec![zip("Client_E4.zip", Some("client"), Some("25.1.0"), 0), zip("EPICS.zip", Some("server"), Some("26.8.0"), 2)];
        let rows = [
            BackupRow {
                instrument: "NDXLARMOR".into(),
                host: "ndxlarmor".into(),
                backups: vec![
                    backup("ibex_backup_2026_11_28", BackupState::Good, good),
                    backup("ibex_backup_2026_10_01", BackupState::Damaged, Vec::new()),
                    backup("ibex_backup_2025_03_02", BackupState::Uncatalogued, vec![zip("EPICS.zip", None, None, 0)]),
                ],
                error: None,
            },
            BackupRow { instrument: "NDXZOOM".into(), host: "ndxzoom".into(), backups: Vec::new(), error: None },
            BackupRow {
                instrument: "NDXLET".into(),
                host: "ndxlet".into(),
                backups: Vec::new(),
                error: Some(Error::new(ErrorKind::Unreachable, "no answer").on_host("NDXLET")),
            },
        ];
        assert_snapshot!(backups(&rows, 0, Screen::PLAIN), @r"
        INSTRUMENT  BACKUP                  MADE (UTC)        STATE         VERSION  HOLDS             SIZE
        NDXLARMOR   ibex_backup_2026_11_28  2026-11-28 14:03  good          26.8.0   client, server  3.0 MB
        NDXLARMOR   ibex_backup_2026_10_01  2026-11-28 14:03  damaged                                   0 B
        NDXLARMOR   ibex_backup_2025_03_02  2026-11-28 14:03  no catalogue           EPICS           1.5 MB
        NDXZOOM     none
        NDXLET      no answer, see below
        NDXLARMOR: ibex_backup_2026_11_28: EPICS.zip lacks 2 files that could not be read
        NDXLARMOR: ibex_backup_2026_10_01: damaged: EPICS.zip is missing
        error: no answer
          on NDXLET
        ");
        let verbose = backups(&rows[..1], 1, Screen::PLAIN);
        assert_snapshot!(verbose.lines().skip(4).collect::<Vec<_>>().join("\n"), @r"
        NDXLARMOR: C:\data\old\ibex_backup_2026_11_28\Client_E4.zip of C:\Instrument\client: 113 files, 1.5 MB, version 25.1.0
        NDXLARMOR: ibex_backup_2026_11_28: EPICS.zip lacks 2 files that could not be read
        NDXLARMOR: C:\data\old\ibex_backup_2026_11_28\EPICS.zip of C:\Instrument\server: 113 files, 1.5 MB, version 26.8.0
        NDXLARMOR: ibex_backup_2026_10_01: damaged: EPICS.zip is missing
        NDXLARMOR: C:\data\old\ibex_backup_2025_03_02\EPICS.zip: 1.5 MB
        ");
    }
}
