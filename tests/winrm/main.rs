//! The real binary over WinRM, to sandboxes behind a service of our own (`tests/lab/winrm`), which logs on and seals with
//! another library than ours.
#![cfg(test)]
#![cfg(target_os = "linux")]

mod bindings;
#[path = "../support/command.rs"]
mod command;
mod damage;
#[path = "../support/kdc.rs"]
mod kdc;
mod kerberos;
mod logon;
mod pull;
mod quotas;
#[path = "../support/sandbox.rs"]
mod sandbox;
#[path = "../support/service.rs"]
mod service;
mod strangers;
mod support;
mod whole;
