//! Real hosts, broken on purpose: what may lock out is put back, and what was tampered with is found.

mod access;
mod attacks_bucket;
mod attacks_input;
mod attacks_log;
mod attacks_manifest;
mod attacks_paths;
mod attacks_services;
mod backups;
mod bans;
mod certificate;
mod containers;
mod database;
mod debian13;
mod dumps;
mod findings;
mod firewall;
mod jobs;
mod judges;
mod least;
mod lockout;
mod rebuild;
mod restore;
mod roles;
mod tamper;
mod templates;
mod units;
