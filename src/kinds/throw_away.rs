//! What a rehearsal makes beside the inventory: how it is named and marked, and how it is told from everything else.
//!
//! A thing is throw-away only where name, address and tags say so together. A tag can be set on any server, so a tag alone says
//! nothing; neither does a name.

use jiff::Timestamp;

use crate::base::address::Address;
use crate::inventory::scalar::Name;
use crate::kinds::iam_user::{IamUser, Purpose};
use crate::kinds::lightsail_key_pair::LightsailKeyPair;
use crate::kinds::{Kind as _, SERVER, physical_name};
use crate::plan::cloud::{CensusEntry, TAG_ADDRESS, TAG_ENVIRONMENT, TAG_EXPIRES, TAG_PURPOSE, THROW_AWAY, Tags};

/// Between a server's name and the time of the rehearsal.
const WORD: &str = "-drill-";
/// `YYYYMMDD-HHMMSS`.
const STAMP: usize = 15;
/// IAM: characters of a user's name.
const LONGEST_USER: usize = 64;
/// Characters that a name of an inventory has at the most.
const LONGEST_NAME: usize = 40;

/// Kinds that a throw-away server has, in the order in which they are removed: first what could still read the repository,
/// then what costs money.
pub const KINDS: [&str; 3] = [IamUser::NAME, SERVER, LightsailKeyPair::NAME];

/// The name of a throw-away server for a rehearsal of `server`, at `stamp` (`YYYYMMDD-HHMMSS`, UTC). A long name is cut: what AWS
/// takes is limited. `None` where the environment's own name leaves no room.
pub fn name(environment: &str, server: &str, stamp: &str) -> Option<Name> {
    let fixed = WORD.len() + STAMP;
    // The longest that is made of it is its identity's name, `ENVIRONMENT-NAME-restore`.
    let user = LONGEST_USER.checked_sub(environment.len() + "-".len() + "-restore".len() + fixed)?;
    let room = user.min(LONGEST_NAME - fixed).min(server.len());
    let made = format!("{}{WORD}{stamp}", server[..room].trim_end_matches('-'));
    is_name(&made).then(|| made.parse().ok()).flatten()
}

/// Whether a server's name is one that [`name`] gives.
pub fn is_name(name: &str) -> bool {
    let Some((server, stamp)) = name.rsplit_once(WORD) else { return false };
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    let is_stamp = stamp.split_once('-').is_some_and(|(day, time)| digits(day, 8) && digits(time, 6));
    !server.is_empty() && is_stamp
}

/// The tags that mark what belongs to a rehearsal, beside those that everything of ours has.
pub fn marks(expires: Timestamp) -> Tags {
    // Whole seconds: tags take no other characters than these.
    let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Tags::from([(TAG_PURPOSE.to_owned(), THROW_AWAY.to_owned()), (TAG_EXPIRES.to_owned(), expires)])
}

/// A part of a throw-away server that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The server's name, as [`name`] gave it.
    pub server: String,
    pub kind: String,
    /// Physical name.
    pub name: String,
    /// `None` where its tag cannot be read: then it is not known to be nobody's.
    pub expires: Option<Timestamp>,
}

/// The physical name of a throw-away server's part.
pub fn part_name(environment: &str, server: &str, kind: &str) -> String {
    let what = match kind {
        IamUser::NAME => Purpose::RESTORE,
        LightsailKeyPair::NAME => "key",
        _ => "",
    };
    physical_name(environment, server, what)
}

/// What part of a throw-away server an entry of the census is; `None` for everything else. `is_declared` says which names the
/// inventory has servers of: those are real, whatever tags say.
pub fn part(environment: &str, entry: &CensusEntry, is_declared: impl Fn(&str) -> bool) -> Option<Part> {
    let tag = |key: &str| entry.tags.get(key).map(String::as_str);
    if !KINDS.contains(&entry.kind.as_str())
        || tag(TAG_ENVIRONMENT) != Some(environment)
        || tag(TAG_PURPOSE) != Some(THROW_AWAY)
    {
        return None;
    }
    let address: Address = tag(TAG_ADDRESS)?.parse().ok()?;
    let server = match entry.kind.as_str() {
        IamUser::NAME => address.name().strip_suffix(&format!("-{}", Purpose::RESTORE))?,
        _ => address.name(),
    };
    let fits = address.kind() == entry.kind && entry.name == part_name(environment, server, &entry.kind);
    if !fits || !is_name(server) || is_declared(server) {
        return None;
    }
    let expires = tag(TAG_EXPIRES).and_then(|text| text.parse().ok());
    Some(Part { server: server.to_owned(), kind: entry.kind.clone(), name: entry.name.clone(), expires })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "db-drill-20261127-050000";

    fn entry(kind: &str, name: &str, address: &str, tags: &[(&str, &str)]) -> CensusEntry {
        let own = [(TAG_ENVIRONMENT, "prod"), (TAG_ADDRESS, address)];
        let tags = own.iter().chain(tags).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        CensusEntry {
            kind: kind.to_owned(),
            name: name.to_owned(),
            arn: None,
            attached_to: None,
            auto_snapshots: false,
            tags,
        }
    }

    const MARKS: [(&str, &str); 2] = [(TAG_PURPOSE, THROW_AWAY), (TAG_EXPIRES, "2026-11-27T17:00:00Z")];

    #[test]
    fn names_have_a_form_of_their_own_and_fit_into_what_aws_takes() {
        assert_eq!(name("prod", "db", "20261127-050000").map(|name| name.to_string()).as_deref(), Some(NAME));
        for (environment, server) in
            [("prod", "a-server-with-a-very-long-name-indeed-yes"), ("environment-of-thirty-letters-", "db")]
        {
            let made = name(environment, server, "20261127-050000").expect("there is room");
            assert!(is_name(made.as_str()), "{made}");
            assert!(part_name(environment, made.as_str(), IamUser::NAME).len() <= LONGEST_USER, "{made}");
        }
        assert_eq!(name("an-environment-of-just-forty-characters-", "db", "20261127-050000"), None);
        for other in [
            "db",
            "db-drill",
            "db-drill-2026",
            "db-drill-20261127-05000",
            "-drill-20261127-050000",
            "db-drill-20261127-050000x",
            "db-drill-20261127050000",
            "db-drill-2026112a-050000",
        ] {
            assert!(!is_name(other), "{other}");
        }
    }

    #[test]
    fn only_what_name_address_and_tags_agree_on_is_throw_away() {
        let instance = |name: &str, address: &str, marks: &[(&str, &str)]| entry(SERVER, name, address, marks);
        let own = format!("lightsail.instance/{NAME}");
        let physical = format!("prod-{NAME}");
        let found = part("prod", &instance(&physical, &own, &MARKS), |_| false).expect("it is one");
        assert_eq!(
            (found.server.as_str(), found.expires.map(|at| at.to_string()).as_deref()),
            (NAME, Some("2026-11-27T17:00:00Z"))
        );
        let user = entry(IamUser::NAME, &format!("prod-{NAME}-restore"), &format!("iam.user/{NAME}-restore"), &MARKS);
        assert_eq!(part("prod", &user, |_| false).map(|part| part.server).as_deref(), Some(NAME));
        let key =
            entry(LightsailKeyPair::NAME, &format!("prod-{NAME}-key"), &format!("lightsail.key_pair/{NAME}"), &MARKS);
        assert!(part("prod", &key, |_| false).is_some());
        let unread = [(TAG_PURPOSE, THROW_AWAY), (TAG_EXPIRES, "soon")];
        assert_eq!(part("prod", &instance(&physical, &own, &unread), |_| false).map(|part| part.expires), Some(None));

        let no_address = {
            let mut entry = instance(&physical, &own, &MARKS);
            entry.tags.remove(TAG_ADDRESS);
            entry
        };
        for (what, entry) in [
            ("a real server with the tags", instance("prod-db", "lightsail.instance/db", &MARKS)),
            ("a real server with tags and address", instance("prod-db", &own, &MARKS)),
            ("a name of the form with another's address", instance(&physical, "lightsail.instance/db", &MARKS)),
            ("a later generation", instance("prod-db-g2", "lightsail.instance/db", &MARKS)),
            ("without the purpose", instance(&physical, &own, &MARKS[1..])),
            ("another purpose", instance(&physical, &own, &[(TAG_PURPOSE, "keep"), MARKS[1]])),
            ("without an address", no_address),
            ("of another kind", entry("s3.bucket", &physical, &format!("s3.bucket/{NAME}"), &MARKS)),
            (
                "the user that writes",
                entry(IamUser::NAME, &format!("prod-{NAME}-backup"), &format!("iam.user/{NAME}-backup"), &MARKS),
            ),
            ("the live server's user", entry(IamUser::NAME, "prod-db-restore", "iam.user/db-restore", &MARKS)),
        ] {
            assert_eq!(part("prod", &entry, |_| false), None, "{what}");
        }
        assert_eq!(part("other", &instance(&physical, &own, &MARKS), |_| false), None, "another environment's");
        assert_eq!(
            part("prod", &instance(&physical, &own, &MARKS), |name| name == NAME),
            None,
            "a server of the inventory"
        );
    }
}
