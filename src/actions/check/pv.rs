//! `check: pv`, and how process variables are read

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::actions::external::{self, External};
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Place;
use crate::platform::facts::Systems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;

/// A process variable, read through the instrument's `caget`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PvCheck {
    /// The process variable's whole name.
    pub name: String,
    /// The value it must have; any value unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
    /// Text that its value must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// How the value is written; `plain` unless said.
    #[serde(default)]
    pub format: PvFormat,
    /// What an unreadable one means; `refuse` unless said.
    #[serde(default)]
    pub unreadable: Unreadable,
}

/// How a process variable holds its value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PvFormat {
    #[default]
    Plain,
    /// zlib-compressed JSON as hexadecimal digits, as the block server writes it.
    HexZlibJson,
}

/// What a process variable that cannot be read means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unreadable {
    /// The check fails.
    #[default]
    Refuse,
    /// It holds when neither the server nor SECI is running (nothing can be disturbed), and fails otherwise.
    ServerDown,
    /// The check holds.
    Accept,
}

impl Look for PvCheck {
    fn wish(&self) -> String {
        match (&self.is, &self.contains) {
            (Some(text), _) => format!("{} to be {text}", self.name),
            (None, Some(text)) => format!("{} to contain `{text}`", self.name),
            (None, None) => format!("{} to be readable", self.name),
        }
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        let read = Reader::new(cx)?.read(std::slice::from_ref(&self.name))?;
        match read.get(&self.name) {
            Some(Ok(raw)) => Ok(self.judge(raw)),
            Some(Err(why)) => self.unreadable(cx, why),
            None => self.unreadable(cx, "caget did not name it"),
        }
    }
}

impl PvCheck {
    fn judge(&self, raw: &str) -> Finding {
        let value = match self.format {
            PvFormat::Plain => raw.to_owned(),
            PvFormat::HexZlibJson => match decode(raw) {
                Ok(value) => value,
                Err(error) => return Finding::Fails(error.context(format!("{} does not hold what was expected", self.name))),
            },
        };
        let is = self.is.as_ref().is_none_or(|wanted| same(wanted, &value, self.format));
        let contains = self.contains.as_ref().is_none_or(|wanted| value.contains(wanted.as_str()));
        if is && contains {
            return Finding::Holds(format!("{} is {}", self.name, shortened(&value)), Value::from(value));
        }
        let wanted = match (&self.is, &self.contains) {
            (Some(is), _) if !self.is_same(&value) => is.clone(),
            (_, Some(text)) => format!("something with `{text}`"),
            (_, None) => self.is.clone().unwrap_or_default(),
        };
        let error = Error::step_failed(format!("{} is {}, and {wanted} is wanted", self.name, shortened(&value)));
        Finding::Fails(error.next("wait until it is so, or ask the instrument's scientists"))
    }

    fn is_same(&self, value: &str) -> bool {
        self.is.as_ref().is_none_or(|wanted| same(wanted, value, self.format))
    }

    fn unreadable(&self, cx: &StepContext<'_>, why: &str) -> Result<Finding> {
        let why = cx.secrets.redact(why);
        let error = Error::step_failed(format!("{} cannot be read: {why}", self.name));
        match self.unreadable {
            Unreadable::Accept => Ok(Finding::holds(format!("{} cannot be read ({why}), which is accepted", self.name))),
            Unreadable::Refuse => {
                Ok(Finding::Fails(error.next("see whether IBEX runs; `unreadable: server_down` lets a stopped server pass")))
            }
            Unreadable::ServerDown => {
                let systems = Systems::now(cx.platform, cx.drives, &cx.plan.places)?;
                let running = systems.server.map(|p| ("the server", p)).or(systems.seci.map(|p| ("SECI", p)));
                let Some((what, program)) = running else {
                    return Ok(Finding::holds(format!("{} cannot be read, and the server is not running", self.name)));
                };
                let error = error.because(format!("{what} runs: {} (pid {})", program.name, program.pid));
                Ok(Finding::Fails(error.next("look at the instrument: what it is doing is unknown")))
            }
        }
    }
}

/// Whether a value is the wanted one; JSON is compared by what it means.
fn same(wanted: &str, value: &str, format: PvFormat) -> bool {
    let json = |text: &str| serde_json::from_str::<Value>(text).ok();
    match format {
        PvFormat::Plain => value.trim() == wanted.trim(),
        PvFormat::HexZlibJson => match (json(wanted), json(value)) {
            (Some(a), Some(b)) => a == b,
            (None, Some(Value::String(b))) => b == wanted,
            _ => false,
        },
    }
}

pub(super) fn shortened(value: &str) -> String {
    let short: String = value.chars().take(80).collect();
    if short.len() < value.len() { format!("{short}... ({} characters)", value.chars().count()) } else { short }
}

/// The longest JSON text that is unpacked; a block server's longest are well below one MB.
const LONGEST_JSON: u64 = 16 << 20;

/// The JSON text behind hexadecimal digits of a zlib stream.
pub(in crate::actions) fn decode(raw: &str) -> Result<String> {
    let digits: Vec<u8> = raw.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let nibble = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let bad =
        |what: &str| Error::step_failed(what.to_owned()).next("is `format: hex_zlib_json` right for this process variable?");
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(bad("it does not hold pairs of hexadecimal digits"));
    }
    let bytes: Option<Vec<u8>> = digits.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect();
    let bytes = bytes.ok_or_else(|| bad("it does not hold hexadecimal digits"))?;
    let mut text = String::new();
    let mut unpacked = flate2::read::ZlibDecoder::new(bytes.as_slice()).take(LONGEST_JSON);
    unpacked.read_to_string(&mut text).map_err(|e| bad("it does not hold a zlib stream").because(e))?;
    serde_json::from_str::<Value>(&text).map_err(|e| bad("it does not hold JSON").because(e))?;
    Ok(text)
}

/// Where `caget` lies in the server's tree, when the inventory has no place `caget`.
const USUAL_CAGET: [&str; 5] = [
    "caget.exe",
    "caget",
    "base\\master\\bin\\windows-x64\\caget.exe",
    "EPICS\\base\\master\\bin\\windows-x64\\caget.exe",
    "ioc_tools\\caget.bat",
];
/// Seconds that caget waits for an answer.
const ANSWER: &str = "5";
/// What caget writes about a variable nobody has.
const NOBODY: [&str; 3] = ["*** Not connected", "Channel connect timed out", "*** no data available"];

/// Reads process variables through the instrument's own `caget`, so that its gateways and address lists count.
pub(in crate::actions) struct Reader<'a> {
    cx: &'a StepContext<'a>,
    program: Place,
    server: Option<std::path::PathBuf>,
}

/// By name: the value as text, or why there is none.
pub(in crate::actions) type Values = BTreeMap<String, Result<String, String>>;

impl<'a> Reader<'a> {
    pub(in crate::actions) fn new(cx: &'a StepContext<'a>) -> Result<Self> {
        let server = cx.native(&Place("server".to_owned())).ok().filter(|s| s.is_dir());
        let named = cx.plan.places.contains_key("caget").then(|| Place("caget".to_owned()));
        let usual = || {
            let places = USUAL_CAGET.iter().map(|below| Place(format!("server\\{below}")));
            places.into_iter().find(|place| cx.native(place).is_ok_and(|p| p.is_file()))
        };
        let program = named.or_else(usual).unwrap_or_else(|| Place("caget".to_owned()));
        Ok(Self { cx, program, server })
    }

    /// Reads all of them by one call.
    ///
    /// # Errors
    /// When the operator cancels, the step's time is over or the disk is full; everything else is a reason in the values.
    pub(in crate::actions) fn read(&self, names: &[String]) -> Result<Values> {
        let mut args: Vec<String> = ["-S", "-w", ANSWER].map(str::to_owned).to_vec();
        args.extend_from_slice(names);
        let program = self.external(args)?;
        let seen = match external::look(self.cx, "caget", program) {
            Ok(seen) => seen,
            Err(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::Cancelled | ErrorKind::OutOfSpace) => return Err(e),
            Err(e) => return Ok(names.iter().map(|n| (n.clone(), Err(e.to_string()))).collect()),
        };
        let why = seen.tail.iter().rfind(|l| !l.trim().is_empty()).map(|l| l.trim().to_owned());
        let why = why.unwrap_or_else(|| format!("caget ended with exit code {}", seen.exit_code));
        let value = |name: &String| match value_of(name, &seen.output) {
            Some(value) if !NOBODY.iter().any(|n| value.contains(n)) => Ok(value.to_owned()),
            Some(value) => Err(value.to_owned()),
            None => Err(why.clone()),
        };
        Ok(names.iter().map(|name| (name.clone(), value(name))).collect())
    }

    fn external(&self, args: Vec<String>) -> Result<External> {
        if self.program.as_str() == "caget" && !self.cx.plan.places.contains_key("caget") {
            return Ok(External { program: "caget".to_owned(), args, ..External::default() }.at(self.server.clone()));
        }
        Ok(External::program(self.cx, &self.program, args)?.at(self.server.clone()))
    }
}

/// The value behind a name in lines of `name value`.
fn value_of<'a>(name: &str, output: &'a str) -> Option<&'a str> {
    output.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(char::is_whitespace).then(|| rest.trim())
    })
}
