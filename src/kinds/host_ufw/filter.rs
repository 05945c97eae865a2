//! ufw's rules as they filter: the first that fits decides, and what fits none is refused.

use ipnet::IpNet;

use crate::kinds::host_ufw::Actual;
use crate::kinds::host_ufw::rules::{Rule, network};

/// A rule of the host's firewall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub allows: bool,
    /// `None` for any.
    pub protocol: Option<String>,
    /// First and last port of each part; empty for any.
    pub ports: Vec<(u16, u16)>,
    pub from: IpNet,
}

impl Filter {
    pub fn is_about(&self, protocol: &str, port: u16) -> bool {
        self.protocol.as_deref().is_none_or(|of| of == protocol)
            && (self.ports.is_empty() || self.ports.iter().any(|(low, high)| (*low..=*high).contains(&port)))
    }

    /// `None` for rules about what leaves or passes through, and for those about one interface or address: they let in
    /// less than they say.
    fn of(rule: &Rule) -> Option<Self> {
        let tuple = &rule.tuple;
        if tuple.action.starts_with("route:") || tuple.direction != "in" || tuple.to != rule.family.anywhere() {
            return None;
        }
        let part = |part: &str| {
            let (low, high) = part.split_once(':').unwrap_or((part, part));
            Some((low.parse().ok()?, high.parse().ok()?))
        };
        let ports = match tuple.port.as_str() {
            "any" => Vec::new(),
            ports => ports.split(',').filter_map(part).collect(),
        };
        Some(Self {
            allows: tuple.action.starts_with("allow") || tuple.action.starts_with("limit"),
            protocol: (tuple.protocol != "any").then(|| tuple.protocol.clone()),
            ports,
            from: network(&tuple.from)?,
        })
    }
}

impl Actual {
    /// What filters now. A side that does not run, or lets everything in before ufw is asked, filters nothing.
    pub fn filters(&self) -> Vec<Filter> {
        let mut filters = Vec::new();
        for side in &self.sides {
            let leads = self.tables.leads.iter().any(|lead| lead.family == side.family);
            if side.loaded.running && side.loaded.holes.is_empty() && !leads {
                filters.extend(side.rules.iter().filter_map(Filter::of));
            } else if let Ok(from) = side.family.anywhere().parse() {
                filters.push(Filter { allows: true, protocol: None, ports: Vec::new(), from });
            }
        }
        filters
    }
}
