//! One request to the API: its parameters, what it may look at and change, and the forms of its answers.

use serde_json::{Value, json};

use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::state::{Common, Delays, Operation, State, now};
use crate::sandbox::lightsail::{Deed, Effect};

/// Members per page of a list, so that a client which ignores page tokens fails with 21 resources.
const PAGE: usize = 20;

/// One request, with what it may look at and change.
pub struct Call<'a> {
    pub region: &'a str,
    pub params: &'a Value,
    pub state: &'a mut State,
    pub delays: Delays,
    /// The address that a static IP with this number gets.
    pub static_address: &'a dyn Fn(u32) -> Option<String>,
    pub effects: Vec<Effect>,
}

impl Call<'_> {
    pub fn text(&self, member: &str) -> Option<&str> {
        self.params.get(member).and_then(Value::as_str)
    }

    pub fn flag(&self, member: &str) -> bool {
        self.params.get(member).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A required text member.
    pub fn need(&self, member: &str) -> Result<String, ApiError> {
        match self.text(member) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(ApiError::invalid(format!("Input parameter '{member}' is required"))),
        }
    }

    /// Records an operation that ends by itself.
    pub fn soon(&mut self, kind: &str, resource_type: &str, on: &Common) -> Operation {
        let done_at = now() + self.delays.operation;
        self.state.operation(kind, resource_type, on, Some(done_at))
    }

    /// Records an operation that ends when a machine has done its part.
    pub fn on_machine(
        &mut self,
        kind: &str,
        resource_type: &str,
        on: &Common,
        deed: Deed,
        instance: &str,
    ) -> Operation {
        let operation = self.state.operation(kind, resource_type, on, None);
        self.effects.push(Effect {
            what: deed,
            region: self.region.to_owned(),
            instance: instance.to_owned(),
            operation: operation.id.clone(),
        });
        operation
    }

    /// Cuts a list into pages.
    pub fn page(&self, member: &str, all: &[Value]) -> Result<Value, ApiError> {
        let start = match self.text("pageToken") {
            None => 0,
            Some(token) => token
                .strip_prefix("page-")
                .and_then(|start| start.parse().ok())
                .filter(|start| *start <= all.len())
                .ok_or_else(|| ApiError::invalid("Invalid pageToken"))?,
        };
        let end = all.len().min(start + PAGE);
        let mut answer = json!({ member: all[start..end] });
        if end < all.len() {
            answer["nextPageToken"] = json!(format!("page-{end}"));
        }
        Ok(answer)
    }
}

/// The answer of calls that return a list of operations.
pub fn many(operations: &[Operation]) -> Value {
    json!({ "operations": operations.iter().map(Operation::view).collect::<Vec<_>>() })
}

/// The answer of calls that return one operation.
pub fn one(operation: &Operation) -> Value {
    json!({ "operation": operation.view() })
}
