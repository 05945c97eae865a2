//! The end of throw-away servers: what is there of them, and that it is gone.
//!
//! What is removed is told by name, address and tags together ([`crate::kinds::throw_away`]), asked anew before each removal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use crate::kinds::table::Data;
use crate::kinds::throw_away::{self, KINDS, Part, part_name};
use crate::kinds::{Owned, kind};
use crate::plan::Place;
use crate::plan::cloud::Census;
use crate::plan::drills::Cleanup;
use crate::plan::observed::Observed;
use crate::plan::probe::CloudProbe;
use crate::reach::world::World;
use crate::reach::{Act as _, Ask};

/// So many looks in a row must find nothing: a request that was under way when somebody interrupted it may come true later.
const CLEAN_LOOKS: u32 = 2;
/// Looks before it is given up.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_secs(3);
/// What a key pair of Lightsail's is, in the census.
const KEY_PAIR: &str = "lightsail.key_pair";
const STATIC_IP: &str = "lightsail.static_ip";

/// A throw-away server of which something is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    pub server: String,
    /// Physical names, each after its kind.
    pub parts: Vec<(String, String)>,
    /// The latest of its parts; `None` where one does not say.
    pub expires: Option<Timestamp>,
}

impl Leftover {
    /// Whether nobody can be at work on it any more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at < now)
    }
}

/// Whose throw-away servers are meant.
pub struct Known<'a> {
    pub environment: &'a str,
    /// Servers of the inventory, which are never among them.
    pub declared: BTreeSet<&'a str>,
}

impl Known<'_> {
    /// The throw-away servers of which something is there.
    ///
    /// # Errors
    /// Why that could not be listed.
    pub async fn leftovers(&self, ask: &impl Ask) -> Result<Vec<Leftover>, String> {
        let census = self.census(ask).await?;
        let mut by_server: BTreeMap<String, Vec<Part>> = BTreeMap::new();
        for part in self.parts(&census) {
            by_server.entry(part.server.clone()).or_default().push(part);
        }
        let leftover = |(server, parts): (String, Vec<Part>)| Leftover {
            server,
            expires: parts
                .iter()
                .map(|part| part.expires)
                .collect::<Option<Vec<_>>>()
                .and_then(|all| all.into_iter().max()),
            parts: parts.into_iter().map(|part| (part.kind, part.name)).collect(),
        };
        Ok(by_server.into_iter().map(leftover).collect())
    }

    /// Removes what is there of a throw-away server, and looks until it is gone.
    pub async fn remove(&self, world: &World, server: &str) -> Cleanup {
        let (mut clean, mut said) = (0, BTreeMap::new());
        for _ in 0..LOOKS {
            let found = match self.census(world).await {
                Ok(census) => self.of(&census, server),
                Err(why) => {
                    said.insert(String::new(), why);
                    sleep(PAUSE).await;
                    continue;
                }
            };
            said.remove("");
            if found.is_empty() {
                clean += 1;
                if clean >= CLEAN_LOOKS {
                    return Cleanup { proven: true, ..Cleanup::default() };
                }
            } else {
                clean = 0;
                said.clear();
            }
            for (kind, name) in found {
                if let Err(why) = remove(world, server, &kind, &name).await {
                    said.insert(format!("{kind} {name}"), why);
                }
            }
            sleep(PAUSE).await;
        }
        let unknown = said.remove("");
        let left = said.into_iter().map(|(what, why)| format!("{what}: {why}")).collect();
        let unknown =
            unknown.or_else(|| clean.eq(&0).then(|| "it was removed again and again, and is listed still".to_owned()));
        Cleanup { proven: false, left, unknown }
    }

    async fn census(&self, ask: &impl Ask) -> Result<Census, String> {
        let probe = CloudProbe::Census { environment: self.environment.to_owned() };
        match ask.cloud(&probe).await {
            Observed::Present(value) => serde_json::from_value(value).map_err(|error| error.to_string()),
            Observed::Absent => Ok(Census::default()),
            Observed::Unknown(why) => Err(why.to_string()),
        }
    }

    /// Clients find a server by its static IP: an instance that has one is no throw-away one, whatever else it says.
    fn parts(&self, census: &Census) -> Vec<Part> {
        let attached: BTreeSet<&str> = census
            .entries
            .iter()
            .filter(|entry| entry.kind == STATIC_IP)
            .filter_map(|entry| entry.attached_to.as_deref())
            .collect();
        let is_declared = |name: &str| self.declared.contains(name);
        let parts = census.entries.iter().filter_map(|entry| throw_away::part(self.environment, entry, is_declared));
        parts.filter(|part| !attached.contains(part.name.as_str())).collect()
    }

    /// What is there of one, by kind, in the order of its removal. Lightsail takes a key pair's tags in a second call, so one of
    /// exactly its name without any is its own, too.
    fn of(&self, census: &Census, server: &str) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = self
            .parts(census)
            .into_iter()
            .filter(|part| part.server == server)
            .map(|part| (part.kind, part.name))
            .collect();
        let key = part_name(self.environment, server, KEY_PAIR);
        let cut_short = |kind: &str, name: &str| kind == KEY_PAIR && name == key;
        if throw_away::is_name(server)
            && !self.declared.contains(server)
            && census.entries.iter().any(|entry| cut_short(&entry.kind, &entry.name) && entry.tags.is_empty())
        {
            found.push((KEY_PAIR.to_owned(), key));
        }
        found.sort_by_key(|(kind, _)| KINDS.iter().position(|known| known == kind));
        found
    }
}

async fn remove(world: &World, server: &str, of: &str, name: &str) -> Result<(), String> {
    let entry = kind(of).ok_or_else(|| format!("`{of}` is no kind"))?;
    let owned = Owned {
        address: crate::base::address::Address::new(of, server),
        place: Place::Cloud,
        name: name.to_owned(),
        arn: None,
        attached_to: None,
        // None are taken of it.
        auto_snapshots: false,
        record: None,
        protected: false,
    };
    for step in (entry.remove)(&owned, Data::Stays).cloud() {
        world.act_cloud(step, &[]).await.map_err(|failure| failure.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::cloud::{CensusEntry, TAG_ADDRESS, TAG_ENVIRONMENT};

    const NAME: &str = "db-drill-20261127-050000";

    fn entry(kind: &str, name: &str, address: &str, expires: Option<&str>) -> CensusEntry {
        let mut tags = BTreeMap::new();
        if let Some(expires) = expires {
            tags = throw_away::marks(expires.parse().expect("a time"));
            tags.insert(TAG_ENVIRONMENT.to_owned(), "prod".to_owned());
            tags.insert(TAG_ADDRESS.to_owned(), address.to_owned());
        }
        CensusEntry {
            kind: kind.to_owned(),
            name: name.to_owned(),
            arn: None,
            attached_to: None,
            auto_snapshots: false,
            tags,
        }
    }

    fn known() -> Known<'static> {
        Known { environment: "prod", declared: BTreeSet::from(["db"]) }
    }

    #[test]
    fn parts_are_removed_in_their_order_and_a_key_pair_that_was_cut_short_with_them() {
        let instance = format!("prod-{NAME}");
        let early = Some("2026-11-27T17:00:00Z");
        let census = Census {
            entries: vec![
                entry("lightsail.instance", &instance, &format!("lightsail.instance/{NAME}"), early),
                entry("iam.user", &format!("{instance}-restore"), &format!("iam.user/{NAME}-restore"), early),
                entry(KEY_PAIR, &format!("{instance}-key"), "", None),
                entry(KEY_PAIR, "prod-db-key", "", None),
                entry("lightsail.instance", "prod-db", "lightsail.instance/db", early),
            ],
        };
        let kinds: Vec<String> = known().of(&census, NAME).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, ["iam.user", "lightsail.instance", KEY_PAIR]);
        assert!(known().of(&census, "db").is_empty(), "a server's key pair is not taken for one");
        assert_eq!(known().parts(&census).len(), 2);
    }

    #[test]
    fn an_instance_that_clients_find_is_none() {
        let instance = format!("prod-{NAME}");
        let mut address = entry(STATIC_IP, "prod-db-ip", "", None);
        address.attached_to = Some(instance.clone());
        let forged =
            entry("lightsail.instance", &instance, &format!("lightsail.instance/{NAME}"), Some("2026-11-27T17:00:00Z"));
        let census = Census { entries: vec![forged, address] };
        assert!(known().parts(&census).is_empty());
    }

    #[test]
    fn what_does_not_say_when_it_expires_has_not_expired() {
        let leftover = |expires: Option<&str>| Leftover {
            server: NAME.to_owned(),
            parts: Vec::new(),
            expires: expires.map(|text| text.parse().expect("a time")),
        };
        let now: Timestamp = "2026-11-27T17:00:01Z".parse().expect("a time");
        assert!(leftover(Some("2026-11-27T17:00:00Z")).is_expired(now));
        assert!(!leftover(Some("2026-11-27T17:00:02Z")).is_expired(now));
        assert!(!leftover(None).is_expired(now));
    }
}
