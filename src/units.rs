//! Durations and sizes as people write them.

use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Whole milliseconds, as events count.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A duration written as a number and a unit (`90s`, `5m`, `2h`, `500ms`), several of them together (`1h30m`) included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::bad_input(format!("`{text}` is not a duration")).next("write a number and a unit: 500ms, 90s, 5m, 2h, 1h30m")
        };
        let mut total = Duration::ZERO;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
            let after = &rest[digits..];
            let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let ms = match &after[..letters] {
                "ms" => 1,
                "s" => 1_000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(bad()),
            };
            let part = number.checked_mul(ms).map(Duration::from_millis).ok_or_else(bad)?;
            total = total.checked_add(part).ok_or_else(bad)?;
            rest = after[letters..].trim_start();
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ms = self.0.as_millis();
        if ms == 0 {
            return f.pad("0s");
        }
        let mut text = String::new();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if ms >= size {
                text.push_str(&format!("{}{unit}", ms / size));
                ms %= size;
            }
        }
        f.pad(&text)
    }
}
impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(s: String) -> Result<Self, String> {
        s.parse().map_err(|e: Error| e.with_advice())
    }
}
impl From<Span> for String {
    fn from(s: Span) -> Self {
        s.to_string()
    }
}

/// A number of bytes written with a unit: `500MB` and `2GB` count in thousands, `500MiB` and `2GiB` in 1024s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Size(pub u64);

const SIZE_UNITS: [(&str, u64); 10] = [
    ("tib", 1 << 40),
    ("gib", 1 << 30),
    ("mib", 1 << 20),
    ("kib", 1 << 10),
    ("tb", 1_000_000_000_000),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1_000),
    ("b", 1),
    ("", 1),
];

impl FromStr for Size {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::bad_input(format!("`{text}` is not a size")).next("write a number and a unit: 500MB, 30GB, 2GiB");
        let lower = text.trim().to_lowercase();
        let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
        let number: f64 = lower[..digits].parse().map_err(|_| bad())?;
        let unit = lower[digits..].trim();
        let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        Ok(Self((number * *factor as f64) as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        let text = match n {
            0..1_000 => format!("{n} B"),
            1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
            _ => format!("{:.1} GB", n as f64 / 1e9),
        };
        f.pad(&text)
    }
}
impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(s: String) -> Result<Self, String> {
        s.parse().map_err(|e: Error| e.with_advice())
    }
}
impl From<Size> for String {
    /// Exact, unlike the form for people.
    fn from(s: Size) -> Self {
        format!("{}B", s.0)
    }
}

/// A whole number that a template may give: `5`, or `'{{ limit }}'`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Count(String);

impl Count {
    /// The number.
    ///
    /// # Errors
    /// When it is none, or 0.
    pub fn number(&self) -> Result<u32> {
        let number = self.0.trim().parse::<u32>().ok().filter(|n| *n > 0);
        number.ok_or_else(|| {
            Error::bad_input(format!("`{}` is not a number of things", self.0)).next("write a whole number, 1 or more")
        })
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl serde::de::Visitor<'_> for NumberOrText {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_u64<E>(self, number: u64) -> Result<Count, E> {
                Ok(Count(number.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Count, E> {
                Ok(Count(number.to_string()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Count, E> {
                Ok(Count(text.to_owned()))
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

impl JsonSchema for Count {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": "A whole number, or a template that gives one.", "type": ["integer", "string"], "minimum": 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() -> Result<()> {
        for (text, ms) in [("90s", 90_000), ("1h30m", 5_400_000), ("500ms", 500), ("1h 5s", 3_605_000)] {
            assert_eq!(text.parse::<Span>()?.0.as_millis(), ms, "{text}");
        }
        assert_eq!("90s".parse::<Span>()?.to_string(), "1m30s");
        for bad in ["", "5", "m", "5x", "-5s", "99999999999999999999s", "9999999999999999999h"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        Ok(())
    }

    #[test]
    fn a_count_may_come_from_a_template() -> Result<()> {
        let read = |json: &str| serde_json::from_str::<Count>(json).map_err(|e| Error::bad_input(e.to_string()));
        assert_eq!(read("5")?.number()?, 5);
        assert_eq!(read("\"12\"")?.number()?, 12);
        for wrong in ["0", "-1", "\"many\"", "\"1.5\""] {
            assert!(read(wrong)?.number().is_err(), "{wrong}");
        }
        assert!(read("[]").is_err());
        Ok(())
    }

    #[test]
    fn sizes_read_and_write() -> Result<()> {
        for (text, n) in [("30GB", 30_000_000_000), ("1.5 MiB", 1_572_864), ("12", 12), ("7b", 7)] {
            assert_eq!(text.parse::<Size>()?.0, n, "{text}");
        }
        assert_eq!(Size(1_234_567).to_string(), "1.2 MB");
        assert_eq!(String::from(Size(1_234_567)).parse::<Size>()?.0, 1_234_567);
        assert!("auto".parse::<Size>().is_err());
        Ok(())
    }
}
