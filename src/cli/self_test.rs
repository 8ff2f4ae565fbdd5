//! `ibexdeploy agent self-test`: what works on this machine.

use super::{exit, write_out};
use crate::error::Result;
use crate::platform::windows::self_test::{self, Finding};
use clap::Args;
use std::path::PathBuf;

/// Try on scratch files, a scratch service and a scratch task what the agent does on a machine
#[derive(Debug, Args)]
pub(super) struct SelfTest {
    /// Ask Windows Update what it offers as well, which takes minutes
    #[arg(long)]
    updates: bool,
    /// Be the scratch service, and write to this file what it found
    #[arg(long, value_name = "FILE", hide = true)]
    service: Option<PathBuf>,
}

impl SelfTest {
    pub(super) fn run(self) -> Result<u8> {
        if let Some(report) = self.service {
            self_test::serve(report)?;
            return Ok(exit::OK);
        }
        let found = self_test::run(self.updates)?;
        let (text, well) = shown(&found);
        write_out(&text)?;
        Ok(if well { exit::OK } else { exit::SOME_FAILED })
    }
}

/// A line for each thing, and whether all of them work.
fn shown(found: &[Finding]) -> (String, bool) {
    let mut text = String::new();
    for Finding { what, result } in found {
        match result {
            Ok(seen) => text.push_str(&format!("works  {what}: {seen}\n")),
            Err(error) => {
                text.push_str(&format!("FAILS  {what}: {error}\n"));
                error.details().output.iter().for_each(|line| text.push_str(&format!("         {line}\n")));
            }
        }
    }
    let works = found.iter().filter(|finding| finding.result.is_ok()).count();
    text.push_str(&format!("{works} of {} work\n", found.len()));
    (text, works == found.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_fails_is_said_with_its_reason_and_counted() {
        let found = [
            Finding { what: "links".to_owned(), result: Ok("made".to_owned()) },
            Finding {
                what: "tasks".to_owned(),
                result: Err(Error::step_failed("no scheduler").with_output(vec!["1717".to_owned()])),
            },
        ];
        let (text, well) = shown(&found);
        assert_eq!(text, "works  links: made\nFAILS  tasks: no scheduler\n         1717\n1 of 2 work\n");
        assert!(!well && shown(&found[..1]).1);
    }
}
