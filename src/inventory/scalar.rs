//! Scalars with rules of their own: durations, money, times of day, networks, names, public keys.
//!
//! Each parses from the text a person writes, prints the same text again, and explains itself when it cannot.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a scalar could not be read; one sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadScalar(pub String);

/// Implements the serde and schema side of a scalar that has `FromStr` and `Display`. The schema's `format` is the
/// word by which `load` finds the parser again, so that every bad scalar of a file is reported at once.
macro_rules! text_scalar {
    ($type:ident, $format:literal, $description:literal) => {
        impl TryFrom<String> for $type {
            type Error = BadScalar;
            fn try_from(text: String) -> Result<Self, BadScalar> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": $format, "description": $description })
            }
        }
    };
}

pub(crate) use text_scalar;

/// A whole number of decimal digits and nothing else: Rust's own parser takes `+1`, too.
pub(crate) fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// A name of our own: lower-case letters, digits and hyphens, 2 to 40 of them, starting with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

text_scalar!(Name, "seawall-name", "2 to 40 lower-case letters, digits and hyphens, starting with a letter");

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let good = (2..=40).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadScalar(format!(
                "`{text}` is not a name: 2 to 40 lower-case letters, digits and hyphens, starting with a letter"
            )))
        }
    }
}

/// A whole number of seconds, written `90s`, `15m`, `1h` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeSpan {
    seconds: u64,
}

text_scalar!(TimeSpan, "seawall-duration", "a whole number and a unit: 90s, 15m, 1h, 7d");

impl TimeSpan {
    pub const fn from_seconds(seconds: u64) -> Self {
        Self { seconds }
    }

    pub const fn seconds(self) -> u64 {
        self.seconds
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self.seconds {
            0 => (0, 's'),
            s if s % 86_400 == 0 => (s / 86_400, 'd'),
            s if s % 3_600 == 0 => (s / 3_600, 'h'),
            s if s % 60 == 0 => (s / 60, 'm'),
            s => (s, 's'),
        };
        write!(f, "{count}{unit}")
    }
}

impl FromStr for TimeSpan {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let bad = || {
            BadScalar(format!("`{text}` is not a duration; write a whole number and s, m, h or d, for example `15m`"))
        };
        let unit = text.chars().last().ok_or_else(bad)?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(bad()),
        };
        let count = whole(&text[..text.len() - 1]).ok_or_else(bad)?;
        count.checked_mul(factor).map(Self::from_seconds).ok_or_else(bad)
    }
}

/// An amount of US dollars per month, written `25 USD` or `14.02 USD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Money {
    cents: u64,
}

text_scalar!(Money, "seawall-money", "US dollars: 25 USD, 14.02 USD");

impl Money {
    pub const fn from_cents(cents: u64) -> Self {
        Self { cents }
    }

    pub const fn cents(self) -> u64 {
        self.cents
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cents % 100 {
            0 => write!(f, "{} USD", self.cents / 100),
            rest => write!(f, "{}.{rest:02} USD", self.cents / 100),
        }
    }
}

impl FromStr for Money {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let bad = || BadScalar(format!("`{text}` is not an amount; write for example `25 USD` or `14.02 USD`"));
        let number = text.strip_suffix(" USD").ok_or_else(bad)?;
        let (dollars, fraction) = number.split_once('.').unwrap_or((number, "00"));
        let dollars = whole(dollars).ok_or_else(bad)?;
        let cents = whole(fraction).filter(|_| fraction.len() == 2).ok_or_else(bad)?;
        dollars.checked_mul(100).and_then(|d| d.checked_add(cents)).map(|cents| Self { cents }).ok_or_else(bad)
    }
}

/// A full hour of the day in UTC, written `06:00`: what Lightsail's automatic snapshots take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HourOfDay(u8);

text_scalar!(HourOfDay, "seawall-hour", "a full hour in UTC: 06:00");

impl fmt::Display for HourOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:00", self.0)
    }
}

impl FromStr for HourOfDay {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        text.strip_suffix(":00")
            .filter(|hour| hour.len() == 2)
            .and_then(|hour| u8::try_from(whole(hour)?).ok())
            .filter(|hour| *hour < 24)
            .map(Self)
            .ok_or_else(|| BadScalar(format!("`{text}` is not a full hour in UTC; write for example `06:00`")))
    }
}

/// Networks wider than these count as anywhere: the largest that were ever given to one organisation.
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 16;

/// A network in CIDR form without host bits, IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(ipnet::IpNet);

text_scalar!(Cidr, "seawall-cidr", "a network without host bits: 203.0.113.0/24, 2001:db8::/32");

impl Cidr {
    pub const fn net(&self) -> ipnet::IpNet {
        self.0
    }

    pub const fn is_v4(&self) -> bool {
        matches!(self.0, ipnet::IpNet::V4(_))
    }

    /// Whether it holds a large part of the internet: two halves are no restriction.
    pub fn is_as_good_as_anywhere(&self) -> bool {
        self.0.prefix_len() < if self.is_v4() { WIDEST_V4 } else { WIDEST_V6 }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cidr {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let bad =
            || BadScalar(format!("`{text}` is not a network; write for example `203.0.113.0/24` or `198.51.100.7/32`"));
        let net: ipnet::IpNet = text.parse().map_err(|_| bad())?;
        // Some programs read `010` as octal: such an address is another one there.
        if matches!(net, ipnet::IpNet::V4(_)) && net.to_string() != text {
            return Err(BadScalar(format!("`{text}` has leading zeros, which some programs read as octal")));
        }
        if text.rsplit('/').next().and_then(whole) != Some(u64::from(net.prefix_len())) {
            return Err(bad());
        }
        if net.trunc() == net {
            Ok(Self(net))
        } else {
            Err(BadScalar(format!(
                "`{text}` has host bits set; the network is `{}`, one address is `{}/{}`",
                net.trunc(),
                net.addr(),
                net.max_prefix_len()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h", 3_600), ("7d", 604_800)] {
            let span: TimeSpan = text.parse().expect(text);
            assert_eq!((span.seconds(), span.to_string().as_str()), (seconds, text));
        }
        for bad in ["", "15", "m", "-1m", "+1m", "1.5h", "15 m", "15min", "99999999999999999999d", "é"] {
            assert!(bad.parse::<TimeSpan>().is_err(), "{bad}");
        }
    }

    #[test]
    fn money() {
        assert_eq!("14.02 USD".parse::<Money>().expect("an amount").cents(), 1_402);
        assert_eq!("25 USD".parse::<Money>().expect("an amount").to_string(), "25 USD");
        for bad in ["25", "25 EUR", "1.5 USD", "-1 USD", " USD", "1. USD"] {
            assert!(bad.parse::<Money>().is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_without_host_bits() {
        assert!("203.0.113.0/24".parse::<Cidr>().is_ok());
        let error = "203.0.113.7/24".parse::<Cidr>().expect_err("host bits");
        assert_eq!(
            error.0,
            "`203.0.113.7/24` has host bits set; the network is `203.0.113.0/24`, one address is `203.0.113.7/32`"
        );
        for bad in
            ["203.0.113.7", "010.0.0.1/32", "10.0.0.01/32", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/255.0.0.0", "::/+0"]
        {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        assert!("2001:DB8::/32".parse::<Cidr>().is_ok());
        assert!("+6:00".parse::<HourOfDay>().is_err());
    }
}
