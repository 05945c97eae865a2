//! Everything that needs no root, no network and no other program but `shellcheck`: data in, text out.

mod support {
    pub(crate) mod case;
    pub(crate) mod model;
    pub(crate) mod page;
    pub(crate) mod sources;
}

mod advisories;
mod cases;
mod cli;
mod dependencies;
mod engine;
mod inventories;
mod laws;
mod schemas;
mod shell;
mod tidy;
