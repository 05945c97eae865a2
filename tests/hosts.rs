//! Real Debian hosts: login and firewall, questions and transactions, the whole story, bad luck, tampering, and real
//! PostgreSQL servers. Needs root.

mod support {
    pub(crate) mod page;
    pub(crate) mod postgres;
    pub(crate) mod rehearsal;
    pub(crate) mod template;
    pub(crate) mod turn;
}

mod badluck;
mod machines;
mod sandbox;
mod ssh;
mod story;
mod versions;
mod views;
