//! The fence of a rebuild: what is left of the old server can neither write into the repository nor serve.
//!
//! Keys first: that works also where the old server cannot be reached. They are deleted, not switched off: nobody can switch
//! them on again. Each step is read back.

use std::time::Duration;

use tokio::time::sleep;

use crate::base::address::Address;
use crate::kinds::{self, generation};
use crate::plan::cloud::{Census, Instance, TAG_ADDRESS, User};
use crate::plan::observed::Observed;
use crate::plan::probe::CloudProbe;
use crate::plan::step::CloudStep;
use crate::reach::world::World;
use crate::reach::{Act as _, Ask as _};

/// Looks at the keys before the fence is given up; IAM lags by seconds.
const LOOKS: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// Whom a fence is for.
pub struct Fenced<'a> {
    pub environment: &'a str,
    pub server: &'a str,
    /// The instance that takes its place, which may not exist yet.
    pub instance: &'a str,
    /// Names of the users whose keys are on the server.
    pub users: &'a [String],
}

/// An instance of an earlier generation that is still there.
pub struct Earlier {
    pub name: String,
    /// For example `stopped`.
    pub state: String,
    /// Whether Lightsail takes automatic snapshots of it, which go with it.
    pub auto_snapshots: bool,
}

impl Fenced<'_> {
    /// The server's other instances: those of earlier generations, and the names of those of later ones.
    ///
    /// # Errors
    /// Why they could not be listed.
    pub async fn others(&self, world: &World) -> Result<(Vec<Earlier>, Vec<String>), String> {
        let probe = CloudProbe::Census { environment: self.environment.to_owned() };
        let census: Census = match world.cloud(&probe).await {
            Observed::Present(value) => serde_json::from_value(value).map_err(|error| error.to_string())?,
            Observed::Absent => Census::default(),
            Observed::Unknown(why) => return Err(why.to_string()),
        };
        let own = Address::new(kinds::SERVER, self.server).to_string();
        let this = generation(self.environment, self.server, self.instance);
        let (mut earlier, mut later) = (Vec::new(), Vec::new());
        for entry in census.entries {
            let of = generation(self.environment, self.server, &entry.name);
            let is_ours = entry.tags.get(TAG_ADDRESS) == Some(&own) && of.is_some();
            if entry.kind != kinds::SERVER || entry.name == self.instance || !is_ours {
                continue;
            }
            if of > this {
                later.push(entry.name);
                continue;
            }
            match world.cloud(&CloudProbe::Instance { name: entry.name.clone() }).await {
                Observed::Present(value) => {
                    let instance: Instance = serde_json::from_value(value).map_err(|error| error.to_string())?;
                    let auto_snapshots = instance.auto_snapshot.is_some();
                    earlier.push(Earlier { name: entry.name, state: instance.state, auto_snapshots });
                }
                Observed::Absent => {}
                Observed::Unknown(why) => return Err(format!("{}: {why}", entry.name)),
            }
        }
        Ok((earlier, later))
    }

    /// Puts it up; the names of the instances that were stopped or were so already.
    ///
    /// # Errors
    /// What could still write or serve.
    pub async fn put_up(&self, world: &World) -> Result<Vec<String>, String> {
        for user in self.users {
            for id in keys(world, user).await? {
                let step = CloudStep::DeleteAccessKey { user: user.clone(), id };
                let done = world.act_cloud(&step, &[]).await;
                done.map_err(|failure| format!("a key of `{user}` could not be deleted: {failure}"))?;
            }
            let mut looks = 0;
            loop {
                let left = keys(world, user).await?;
                if left.is_empty() {
                    break;
                }
                looks += 1;
                if looks > LOOKS {
                    return Err(format!("`{user}` still has {}", left.join(", ")));
                }
                sleep(PAUSE).await;
            }
        }
        let mut stopped = Vec::new();
        let (earlier, later) = self.others(world).await?;
        if let Some(later) = later.first() {
            return Err(format!("instance `{later}` is of a later generation"));
        }
        for Earlier { name, state, auto_snapshots: _ } in earlier {
            if state != "stopped" {
                let done = world.act_cloud(&CloudStep::StopInstance { name: name.clone() }, &[]).await;
                done.map_err(|failure| format!("instance `{name}` could not be stopped: {failure}"))?;
            }
            stopped.push(name);
        }
        Ok(stopped)
    }
}

async fn keys(world: &World, user: &str) -> Result<Vec<String>, String> {
    match world.cloud(&CloudProbe::User { name: user.to_owned() }).await {
        Observed::Absent => Ok(Vec::new()),
        Observed::Present(value) => {
            let found: User = serde_json::from_value(value).map_err(|error| error.to_string())?;
            Ok(found.keys.into_iter().map(|key| key.id).collect())
        }
        Observed::Unknown(why) => Err(format!("the keys of `{user}` could not be read: {why}")),
    }
}
