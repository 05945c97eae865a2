//! AWS and hosts together: the one implementation of [`Ask`] and [`Act`]. `look` holds the half that cannot write.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::base::secret::{Secret, SecretUse};
use crate::plan::change::Proof;
use crate::plan::host::Endpoint;
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, CloudProbe, HostProbe};
use crate::plan::step::CloudStep;
use crate::reach::aws::Aws;
use crate::reach::ssh::session::Ssh;
use crate::reach::{Act, Ask, Failure, Guarded, HostEvent, Transaction};

/// A way to AWS and a way to hosts.
#[derive(Clone)]
pub struct World {
    pub aws: Aws,
    /// Shared with whoever closes the connections at the end.
    pub ssh: Arc<Ssh>,
}

impl Ask for World {
    async fn cloud(&self, probe: &CloudProbe) -> Observed<Value> {
        self.aws.ask(probe).await
    }

    async fn host(&self, at: &Endpoint, probes: &[HostProbe]) -> Answers {
        self.ssh.ask(at, probes).await
    }

    fn redacted(&self, words: &str) -> String {
        self.ssh.vault.redactor().tools(words)
    }

    async fn fingerprint(&self, secret: &SecretUse) -> Result<String, String> {
        self.ssh.vault.fingerprint(secret).await
    }
}

impl Act for World {
    async fn act_cloud(&self, step: &CloudStep, hosts: &[Endpoint]) -> Result<(), Failure> {
        let deliver = |server: String, path: String, group: String, bytes: Secret<Vec<u8>>| async move {
            let Some(at) = hosts.iter().find(|endpoint| endpoint.server == server) else {
                return Err(Failure::new(format!(
                    "the key could not be written: no way to log in to `{server}` is known"
                )));
            };
            self.ssh.deliver_key(at, &path, &group, &bytes).await
        };
        self.aws.act(step, &deliver).await
    }

    async fn wait_ready(&self, at: &Endpoint) -> Result<(), Failure> {
        self.ssh.wait_ready(at).await
    }

    async fn act_host(
        &self,
        at: &Endpoint,
        transaction: &Transaction,
        on_event: &(dyn Fn(HostEvent) + Sync),
    ) -> Result<(), Failure> {
        self.ssh.act(at, transaction, on_event).await
    }

    async fn prove(&self, at: &Endpoint, proofs: &[Proof], limit: Duration) -> Result<(), Failure> {
        self.ssh.prove(at, proofs, limit).await
    }

    async fn keep(&self, at: &Endpoint, transaction: &str) -> Result<Guarded, Failure> {
        self.ssh.keep(at, transaction).await
    }

    async fn put_back(&self, ways: &[Endpoint], transaction: &str, limit: Duration) -> Result<Guarded, Failure> {
        self.ssh.put_back(ways, transaction, limit).await
    }
}
