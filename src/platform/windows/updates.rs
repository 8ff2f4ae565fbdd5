//! Windows Update, through PowerShell: its interface is made of objects that scripts ask, and has no other text form.

use super::powershell;
use crate::error::{Error, Result};
use crate::platform::updates::Update;
use serde::Deserialize;

/// Writes a line of JSON for each update that could be installed.
pub(super) const LIST: &str = include_str!("scripts/list_updates.ps1");

/// Downloads and installs the update whose identity or article is `$env:IBEXDEPLOY_UPDATE`, and writes a line of JSON about
/// how that went.
pub(super) const INSTALL: &str = include_str!("scripts/install_update.ps1");

/// The exit code of an installer that wants a restart (ERROR_SUCCESS_REBOOT_REQUIRED), and of one that failed
/// (ERROR_INSTALL_FAILURE).
const WANTS_RESTART: i32 = 3010;
const FAILED: i32 = 1603;

/// OperationResultCode: succeeded, and succeeded with errors that do not matter to the update itself.
const SUCCEEDED: [i32; 2] = [2, 3];

#[derive(Debug, Deserialize)]
struct Offer {
    guid: String,
    article: String,
    title: String,
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Installed {
    chosen: u32,
    result: i32,
    code: i32,
    restart: bool,
}

/// The updates that can be installed now.
pub(super) fn offered() -> Result<Vec<Update>> {
    offers_in(&powershell::run("ask Windows Update what it offers", LIST, &[], None)?)
}

/// Installs an update, and gives the exit code that an installer would have.
pub(super) fn install(id: &str) -> Result<i32> {
    let output = powershell::run(&format!("install the update {id}"), INSTALL, &[("IBEXDEPLOY_UPDATE", id)], None)?;
    outcome_in(&output, id)
}

fn offers_in(output: &str) -> Result<Vec<Update>> {
    let offers: Vec<Offer> = output
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).map_err(|e| powershell::not_understood(line).because(e)))
        .collect::<Result<_>>()?;
    let id = |offer: &Offer| {
        // Some articles have several updates; each has an identity of its own.
        let same = offers.iter().filter(|other| other.article == offer.article).count();
        if offer.article.is_empty() || same > 1 { offer.guid.clone() } else { format!("KB{}", offer.article) }
    };
    Ok(offers.iter().map(|offer| Update { id: id(offer), title: offer.title.clone(), bytes: offer.bytes }).collect())
}

fn outcome_in(output: &str, id: &str) -> Result<i32> {
    let line = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let done: Installed = serde_json::from_str(line).map_err(|e| powershell::not_understood(line).because(e))?;
    Ok(match done {
        Installed { chosen: 0, .. } => {
            return Err(Error::step_failed(format!("Windows Update does not offer {id} any more"))
                .next("list the updates again: it may be installed, or replaced by a newer one"));
        }
        Installed { result, restart: true, .. } if SUCCEEDED.contains(&result) => WANTS_RESTART,
        Installed { result, .. } if SUCCEEDED.contains(&result) => 0,
        Installed { code: 0, .. } => FAILED,
        Installed { code, .. } => code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_have_the_name_of_their_article_where_it_is_theirs_alone() {
        let output = "{\"guid\":\"a\",\"article\":\"5034441\",\"title\":\"One\",\"bytes\":12}\r\n\
            {\"guid\":\"b\",\"article\":\"890830\",\"title\":\"Two\",\"bytes\":0}\r\n\
            {\"guid\":\"c\",\"article\":\"890830\",\"title\":\"Three\",\"bytes\":0}\r\n\
            {\"guid\":\"d\",\"article\":\"\",\"title\":\"Driver\",\"bytes\":0}\r\n\r\n";
        let found = offers_in(output).unwrap();
        let ids: Vec<&str> = found.iter().map(|update| update.id.as_str()).collect();
        assert_eq!(ids, ["KB5034441", "b", "c", "d"]);
        assert_eq!((found[0].title.as_str(), found[0].bytes), ("One", 12));
        assert!(offers_in("Exception: no\n").is_err());
    }

    #[test]
    fn how_an_installation_went_is_an_installers_exit_code() {
        let said = |chosen: u32, result: i32, code: i32, restart: bool| {
            let line = format!("{{\"chosen\":{chosen},\"result\":{result},\"code\":{code},\"restart\":{restart}}}\r\n");
            outcome_in(&line, "KB1")
        };
        assert_eq!(said(1, 2, 0, false).unwrap(), 0);
        assert_eq!(said(1, 3, 0, true).unwrap(), WANTS_RESTART);
        assert_eq!(said(1, 4, -2_145_124_318, false).unwrap(), -2_145_124_318);
        assert_eq!(said(1, 5, 0, true).unwrap(), FAILED);
        assert!(said(0, 0, 0, false).unwrap_err().to_string().contains("KB1"));
        assert!(outcome_in("", "KB1").is_err());
    }
}
