//! What PostgreSQL reads in a line of pg_hba.conf.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

/// A line of `pg_hba_file_rules`; where there is an error, the rest may be missing. Versions add columns.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Row {
    pub(super) line_number: Option<u32>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    database: Option<Vec<String>>,
    user_name: Option<Vec<String>>,
    address: Option<String>,
    netmask: Option<String>,
    auth_method: Option<String>,
    options: Option<Vec<String>>,
    pub(super) error: Option<String>,
}

impl Row {
    pub(super) fn rule(&self) -> String {
        let list = |words: &Option<Vec<String>>| words.as_ref().map(|words| words.join(","));
        let options = self.options.as_ref().map(|options| options.join(" "));
        let words = [
            self.kind.clone(),
            list(&self.database),
            list(&self.user_name),
            self.network(),
            self.auth_method.clone(),
            options,
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// The address with its mask as a network, where it is one.
    fn network(&self) -> Option<String> {
        let address = self.address.as_ref()?;
        let mask = || self.netmask.as_ref()?.parse::<IpAddr>().ok();
        let network = address.parse::<IpAddr>().ok().and_then(|ip| IpNet::with_netmask(ip, mask()?).ok());
        Some(network.map_or_else(|| address.clone(), |network| network.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_lines_are_written() {
        let row: Row = serde_json::from_value(serde_json::json!({
            "rule_number": 1, "file_name": "/x", "line_number": 9, "type": "hostssl", "database": ["a", "b"],
            "user_name": ["+group"], "address": "198.51.100.0", "netmask": "255.255.255.0",
            "auth_method": "cert", "options": ["map=x", "clientcert=verify-full"], "error": null,
        }))
        .expect("a row");
        assert_eq!(row.rule(), "hostssl a,b +group 198.51.100.0/24 cert map=x clientcert=verify-full");
    }
}
