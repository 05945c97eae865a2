//! The service: one mutex over the state, a file behind it, and the work on machines that answers start.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::{HeaderMap, Response};
use serde_json::{Value, json};

use crate::sandbox::faults::{FaultKind, Faults};
use crate::sandbox::lightsail::addons;
use crate::sandbox::lightsail::call::Call;
use crate::sandbox::lightsail::catalog::{REGIONS, blueprint};
use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::machine::{Machine, MachineFault, Machines, Order, PortRule};
use crate::sandbox::lightsail::operations::run;
use crate::sandbox::lightsail::state::{Delays, Instance, Operation, State, key, now};
use crate::sandbox::lightsail::{Deed, Effect};

/// How long an answer that never comes is held back: longer than any client of ours waits.
const NEVER: Duration = Duration::from_mins(2);
/// The session token that is always expired.
pub const EXPIRED_TOKEN: &str = "expired";

/// Whether a policy of the caller's allows an operation.
pub type Permits<'a> = &'a (dyn Fn(&str) -> bool + Sync);

/// How the service is set up.
pub struct Setup {
    pub account: String,
    /// The access key id of the account's owner, who may do everything.
    pub access_key: String,
    pub delays: Delays,
    /// Where the state is kept; none keeps it in memory.
    pub file: Option<PathBuf>,
    /// The lab's SSH user certificate authority, a public key line.
    pub user_ca: Option<String>,
}

/// The Lightsail service.
pub struct Lightsail {
    setup: Setup,
    state: Mutex<State>,
    machines: Arc<dyn Machines>,
    pub faults: Arc<Faults>,
    /// One lock per instance, so that work on one machine never overlaps.
    queues: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Instances that ran when an earlier daemon ended, on their way back.
    adopting: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Lightsail {
    /// Opens the service with what it remembers, and takes up work that an earlier daemon left undone.
    pub fn open(setup: Setup, machines: Arc<dyn Machines>, faults: Arc<Faults>) -> std::io::Result<Arc<Self>> {
        let mut state = match &setup.file {
            Some(file) => State::load(file, &setup.account)?,
            None => State::default(),
        };
        setup.account.clone_into(&mut state.account);
        state.move_addresses(|address| machines.here(address));
        let service = Arc::new(Self {
            setup,
            state: Mutex::new(state),
            machines,
            faults,
            queues: Mutex::default(),
            adopting: Mutex::default(),
        });
        // Other processes read where the servers are from the file.
        service.save(&service.lock());
        service.take_up();
        Ok(service)
    }

    /// Instances that were on their way when the daemon died go on; those that ran are handed to the machines.
    fn take_up(self: &Arc<Self>) {
        let instances: Vec<Instance> = self.lock().instances.values().cloned().collect();
        for instance in instances {
            let what = match instance.state.as_str() {
                "pending" if instance.v4.is_none() => Deed::Create,
                "pending" => Deed::Start,
                "stopping" => Deed::Stop,
                "shutting-down" => Deed::Delete,
                "running" => {
                    let service = Arc::clone(self);
                    let coming = tokio::spawn(async move { service.adopt(&instance).await });
                    self.adopting.lock().unwrap_or_else(PoisonError::into_inner).push(coming);
                    continue;
                }
                _ => continue,
            };
            let on = |o: &&Operation| o.done_at.is_none() && o.resource == instance.common.name;
            let operation = self.lock().operations.iter().rev().find(on).map(|o| o.id.clone());
            self.spawn(Effect {
                what,
                region: instance.common.region.clone(),
                instance: instance.common.name.clone(),
                operation: operation.unwrap_or_default(),
            });
        }
    }

    /// Waits until every instance that ran under an earlier daemon runs again, or is known not to.
    pub async fn adopted(&self) {
        let coming = std::mem::take(&mut *self.adopting.lock().unwrap_or_else(PoisonError::into_inner));
        for one in coming {
            if let Err(error) = one.await {
                tracing::error!(%error, "an instance was not taken over");
            }
        }
    }

    async fn adopt(&self, instance: &Instance) {
        if !matches!(self.machines.adopt(&instance.common.name).await, Ok(true)) {
            self.update(&instance.common.region, &instance.common.name, |instance| {
                "stopped".clone_into(&mut instance.state);
            });
        }
    }

    /// Powers everything behind the instances off in order.
    pub async fn rest(&self) -> Result<(), MachineFault> {
        self.machines.rest().await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the automatic snapshots of a day; the number of instances of which one was taken.
    pub fn take_snapshots(&self) -> usize {
        let mut state = self.lock();
        let taken = addons::take(&mut state);
        self.save(&state);
        taken
    }

    /// A copy of everything the service remembers.
    pub fn snapshot(&self) -> State {
        self.lock().clone()
    }

    /// Answers one request. The region comes from the credential scope. `permits` says of an operation whether a policy of
    /// the caller's allows it; the account's owner is not asked for one.
    pub async fn respond(self: &Arc<Self>, headers: &HeaderMap, body: &Bytes, permits: Permits<'_>) -> Response<Body> {
        match self.answer(headers, body, permits).await {
            Ok(value) => Response::builder()
                .header("content-type", "application/x-amz-json-1.1")
                .body(Body::from(value.to_string()))
                .expect("a plain header and a body make a response"),
            Err(error) => error.into_response(),
        }
    }

    async fn answer(
        self: &Arc<Self>,
        headers: &HeaderMap,
        body: &Bytes,
        permits: Permits<'_>,
    ) -> Result<Value, ApiError> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let operation = text("x-amz-target")
            .strip_prefix("Lightsail_20161128.")
            .ok_or_else(|| ApiError::new("UnknownOperationException", "No operation of this service"))?;
        let region = self.authorize(operation, text("authorization"), text("x-amz-security-token"), permits)?;
        let params = match body.as_ref() {
            [] => json!({}),
            bytes => {
                serde_json::from_slice(bytes).map_err(|e| ApiError::new("SerializationException", e.to_string()))?
            }
        };
        let fault = self.faults.take("lightsail", operation);
        match fault {
            Some(FaultKind::Throttle) => return Err(ApiError::new("ThrottlingException", "Rate exceeded")),
            Some(FaultKind::AccessDenied) => return Err(denied(operation)),
            Some(FaultKind::ExpiredToken) => return Err(expired()),
            Some(FaultKind::Http500) => {
                let mut error = ApiError::new("ServiceException", "An injected failure of the service");
                error.status = 500;
                return Err(error);
            }
            _ => {}
        }
        let (answer, effects) = self.call(operation, &region, &params, fault)?;
        for effect in effects {
            self.spawn(effect);
        }
        if fault == Some(FaultKind::TimeoutAfterEffect) {
            tokio::time::sleep(NEVER).await;
        }
        Ok(answer)
    }

    fn call(
        &self,
        operation: &str,
        region: &str,
        params: &Value,
        fault: Option<FaultKind>,
    ) -> Result<(Value, Vec<Effect>), ApiError> {
        let mut state = self.lock();
        let mut trial = state.clone();
        let mut call = Call {
            region,
            params,
            state: &mut trial,
            delays: self.setup.delays,
            static_address: &|number| self.machines.static_address(number).map(|at| at.to_string()),
            effects: Vec::new(),
        };
        let answer = run(operation, &mut call)?;
        let mut effects = call.effects;
        if fault == Some(FaultKind::FailOperation) {
            let known = state.operations.len();
            for mut operation in trial.operations.split_off(known.min(trial.operations.len())) {
                operation.done_at = Some(now() + self.setup.delays.operation);
                operation.error = Some("An injected failure of the operation".to_owned());
                state.operations.push(operation);
            }
            effects.clear();
        } else {
            if fault == Some(FaultKind::StuckPending) {
                for effect in effects.iter().filter(|effect| effect.what == Deed::Create) {
                    if let Some(instance) = trial.instances.get_mut(&key(region, &effect.instance)) {
                        instance.stuck = true;
                    }
                }
            }
            *state = trial;
        }
        if !operation.starts_with("Get") {
            self.save(&state);
        }
        Ok((answer, effects))
    }

    /// Knows the caller by the access key id, and returns the region. Signatures are not computed here.
    fn authorize(
        &self,
        operation: &str,
        authorization: &str,
        token: &str,
        permits: Permits<'_>,
    ) -> Result<String, ApiError> {
        let scope = Scope::of(authorization)
            .ok_or_else(|| ApiError::new("UnauthenticatedException", "Request is missing an authentication token"))?;
        if token == EXPIRED_TOKEN {
            return Err(expired());
        }
        if !REGIONS.iter().any(|(name, _, _)| *name == scope.region) {
            return Err(ApiError::invalid(format!("Lightsail is not available in {}", scope.region)));
        }
        if scope.access_key == self.setup.access_key || permits(operation) {
            return Ok(scope.region);
        }
        if scope.access_key.starts_with("AKIA") {
            return Err(denied(operation));
        }
        Err(ApiError::new("UnrecognizedClientException", "The security token included in the request is invalid"))
    }

    fn save(&self, state: &State) {
        if let Some(file) = &self.setup.file
            && let Err(error) = state.save(file)
        {
            tracing::error!(%error, "the state of the lab's Lightsail was not saved");
        }
    }

    fn update(&self, region: &str, name: &str, change: impl FnOnce(&mut Instance)) {
        let mut state = self.lock();
        if let Ok(instance) = state.instance_mut(region, name) {
            change(instance);
        }
        self.save(&state);
    }

    fn spawn(self: &Arc<Self>, effect: Effect) {
        let service = Arc::clone(self);
        // The lock is queued for here, in the order of the calls, because tokio's mutex is fair.
        let queue = Arc::clone(
            self.queues
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(key(&effect.region, &effect.instance))
                .or_default(),
        );
        tokio::spawn(async move {
            let turn = queue.lock().await;
            let error = service.work(&effect).await.err().map(|fault| fault.0);
            drop(turn);
            let mut state = service.lock();
            state.finish(&effect.operation, error);
            service.save(&state);
        });
    }

    async fn work(&self, effect: &Effect) -> Result<(), MachineFault> {
        let (region, name) = (effect.region.as_str(), effect.instance.as_str());
        let Ok(instance) = self.lock().instance(region, name).cloned() else {
            return Ok(());
        };
        match effect.what {
            Deed::Create => {
                let machine = self.machines.create(&order(&instance, self.setup.user_ca.clone())).await?;
                self.came_up(region, name, &machine).await
            }
            Deed::Start => {
                let machine = self.machines.start(name).await?;
                self.came_up(region, name, &machine).await
            }
            Deed::Stop => {
                self.machines.stop(name).await?;
                self.update(region, name, |instance| "stopped".clone_into(&mut instance.state));
                Ok(())
            }
            Deed::Reboot => self.machines.reboot(name).await,
            Deed::Delete => {
                self.machines.delete(name).await?;
                tokio::time::sleep(Duration::from_secs_f64(self.setup.delays.deleting)).await;
                let mut state = self.lock();
                state.instances.remove(&key(region, name));
                self.save(&state);
                Ok(())
            }
            Deed::Ports => self.ports(region, name).await,
            Deed::Address => self.address(region, name).await,
        }
    }

    async fn came_up(&self, region: &str, name: &str, machine: &Machine) -> Result<(), MachineFault> {
        self.update(region, name, |instance| note(instance, machine));
        self.ports(region, name).await?;
        if self.static_of(region, name).is_some() {
            self.address(region, name).await?;
        }
        tokio::time::sleep(Duration::from_secs_f64(self.setup.delays.running)).await;
        let witnessed = now() + self.setup.delays.host_keys;
        self.update(region, name, |instance| {
            // It may have been asked to go in the meantime, or be held back by a fault.
            if instance.state == "pending" && !instance.stuck {
                "running".clone_into(&mut instance.state);
                instance.witnessed_at = Some(witnessed);
            }
        });
        Ok(())
    }

    async fn ports(&self, region: &str, name: &str) -> Result<(), MachineFault> {
        let rules: Vec<PortRule> = self.lock().instance(region, name).map(|i| i.ports.clone()).unwrap_or_default();
        self.machines.set_ports(name, &rules).await
    }

    async fn address(&self, region: &str, name: &str) -> Result<(), MachineFault> {
        let wanted = self.static_of(region, name);
        let address = self.machines.set_public_address(name, wanted).await?;
        self.update(region, name, |instance| instance.v4 = Some(address.to_string()));
        Ok(())
    }

    fn static_of(&self, region: &str, name: &str) -> Option<Ipv4Addr> {
        let state = self.lock();
        let mut here = state.static_ips.values().filter(|ip| ip.common.region == region);
        here.find(|ip| ip.attached_to.as_deref() == Some(name)).and_then(|ip| ip.address.parse().ok())
    }
}

fn note(instance: &mut Instance, machine: &Machine) {
    instance.v4 = (instance.ip_address_type != "ipv6").then(|| machine.v4.to_string());
    instance.v6 = machine.v6.filter(|_| instance.ip_address_type != "ipv4").map(|v6: Ipv6Addr| v6.to_string());
    if !machine.host_keys.is_empty() {
        instance.host_keys.clone_from(&machine.host_keys);
    }
}

fn order(instance: &Instance, user_ca: Option<String>) -> Order {
    Order {
        name: instance.common.name.clone(),
        hostname: format!("ip-{}", instance.private_v4.replace('.', "-")),
        username: blueprint(&instance.blueprint).map_or("admin", |blueprint| blueprint.username).to_owned(),
        blueprint: instance.blueprint.clone(),
        authorized_keys: Some(instance.authorized_key.clone()).filter(|line| !line.is_empty()).into_iter().collect(),
        user_data: instance.user_data.clone(),
        user_ca,
        ports: instance.ports.clone(),
    }
}

fn denied(operation: &str) -> ApiError {
    ApiError::new("AccessDeniedException", format!("User is not authorized to perform: lightsail:{operation}"))
}

fn expired() -> ApiError {
    ApiError::new("ExpiredTokenException", "The security token included in the request is expired")
}

/// The credential scope of a SigV4 request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub access_key: String,
    pub region: String,
    pub service: String,
}

impl Scope {
    /// Reads `Credential=KEY/DATE/REGION/SERVICE/aws4_request` out of an Authorization header.
    pub fn of(authorization: &str) -> Option<Self> {
        let (_, rest) = authorization.split_once("Credential=")?;
        Self::of_credential(rest.split([',', ' ']).next()?)
    }

    /// Reads `KEY/DATE/REGION/SERVICE/aws4_request`.
    pub fn of_credential(credential: &str) -> Option<Self> {
        let mut parts = credential.rsplit('/');
        let (end, service, region, _date) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let access_key = parts.next()?;
        (end == "aws4_request").then(|| Self {
            access_key: access_key.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
        })
    }
}
