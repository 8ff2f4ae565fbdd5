//! `ibexdeploy inventory list|show|check`.

use super::{GlobalOptions, TargetOptions, exit, table, write_out};
use crate::error::{Error, Result};
use crate::inventory::{Instrument, Inventory as Loaded, KitTransfer, Selection};
use crate::report::text::{safe, safe_json};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Show and check the inventory
#[derive(Debug, Args)]
pub(super) struct Inventory {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The instruments, or those of a pattern
    List {
        #[command(flatten)]
        targets: TargetOptions,
    },
    /// All settings of one instrument, and where each was set
    Show {
        /// Its name, in any case, with or without NDX
        name: String,
    },
    /// Check the whole inventory
    Check,
}

impl Inventory {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let inventory = Loaded::load(&global.inventory)?;
        let as_json = global.wants_json();
        let text = match self.command {
            Command::List { targets } => {
                let chosen = inventory.select(&Selection::from_options(&targets).or_all())?;
                if as_json { document(&json!(chosen.iter().map(|i| brief(i)).collect::<Vec<_>>()))? } else { list(&chosen) }
            }
            Command::Show { name } => {
                let instrument = inventory.instrument(&name)?;
                if as_json { document(&full(instrument))? } else { show(&inventory, instrument) }
            }
            Command::Check => {
                let warnings = inventory.warnings(jiff::Zoned::now().date());
                let warnings: Vec<String> = warnings.iter().map(|w| located(w.position.as_ref(), &w.message)).collect();
                let count = inventory.instruments.len();
                if as_json {
                    document(&json!({"file": inventory.file, "instruments": count, "warnings": warnings}))?
                } else {
                    check(&inventory, &warnings)
                }
            }
        };
        write_out(if as_json { safe_json(text) } else { safe(&text).into_owned() })?;
        Ok(exit::OK)
    }
}

fn document(value: &Value) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::internal("cannot write JSON").because(e))?;
    Ok(text + "\n")
}

fn located(position: Option<&crate::error::SourcePosition>, message: &str) -> String {
    position.map_or_else(|| message.to_owned(), |p| format!("{}:{}:{}: {message}", p.file, p.line, p.column))
}

fn joined(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn transport(instrument: &Instrument) -> &str {
    instrument.transport.name()
}

fn retirement(instrument: &Instrument) -> String {
    match &instrument.seci {
        None => String::new(),
        Some(seci) => seci.retire.map_or_else(|| "not agreed".to_owned(), |date| date.to_string()),
    }
}

fn list(chosen: &[&Instrument]) -> String {
    let rows = chosen.iter().map(|i| [i.name.clone(), i.host.clone(), transport(i).to_owned(), joined(&i.groups), retirement(i)]);
    let mut text = table::draw(["INSTRUMENT", "HOST", "BY", "GROUPS", "SECI UNTIL"], rows);
    let _ = writeln!(text, "{}", counted(chosen.len(), "instrument"));
    text
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn brief(i: &Instrument) -> Value {
    json!({
        "name": i.name, "host": i.host, "groups": i.groups, "transport": transport(i),
        "seci": i.seci,
    })
}

/// Everything about an instrument; of secrets, only where they come from.
fn full(i: &Instrument) -> Value {
    let accounts: serde_json::Map<String, Value> =
        i.accounts.iter().map(|(n, a)| (n.clone(), json!({"user": a.user, "logged_on": a.logged_on}))).collect();
    let kits = match &i.kits {
        KitTransfer::Push => json!("push"),
        KitTransfer::Pull(pull) => json!({"pull": pull}),
    };
    let layout = match &i.versions {
        None => json!("plain"),
        Some(versions) => json!({"linked": {"versions": versions}}),
    };
    let origins: serde_json::Map<String, Value> =
        i.origins.iter().map(|(pointer, o)| (pointer.clone(), json!(o.layer.to_string()))).collect();
    json!({
        "name": i.name, "host": i.host, "groups": i.groups, "transport": i.transport_settings, "accounts": accounts,
        "kits": kits, "layout": layout, "places": i.places, "vars": i.vars, "secrets": i.secrets, "seci": i.seci, "origins": origins,
    })
}

fn show(inventory: &Loaded, i: &Instrument) -> String {
    let settings = full(i);
    let rows = i.origins.iter().map(|(pointer, origin)| {
        let key = pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
        let line = inventory.position_of(i, pointer).map_or(0, |p| p.line);
        [key, shown(i, &settings, pointer), format!("{} (line {line})", origin.layer)]
    });
    let head = format!("{} ({})\nhost {}, groups {}\n\n", i.name, i.inst(), i.host, joined(&i.groups));
    head + &table::draw(["SETTING", "VALUE", "FROM"], rows)
}

/// A value as text. Accounts have another form in the file than in memory.
fn shown(i: &Instrument, settings: &Value, pointer: &str) -> String {
    let parts: Vec<&str> = pointer.split('/').skip(1).collect();
    if let ["accounts", name, "session"] = parts[..] {
        return i.accounts.get(name).map_or("", |a| if a.logged_on { "logged_on" } else { "any" }).to_owned();
    }
    match settings.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn check(inventory: &Loaded, warnings: &[String]) -> String {
    let mut text = String::new();
    for warning in warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    let count = counted(inventory.instruments.len(), "instrument");
    let noted = if warnings.is_empty() { "no warnings".to_owned() } else { counted(warnings.len(), "warning") };
    let _ = writeln!(text, "{}: {count}, {noted}", inventory.file.display());
    text
}
