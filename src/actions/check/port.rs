//! `check: port`

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Something must listen on a TCP port of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortCheck {
    /// The number of the port.
    pub port: u16,
}

/// The machine's own network answers at once, or not at all.
const CONNECT: Duration = Duration::from_secs(2);

impl Look for PortCheck {
    fn wish(&self) -> String {
        format!("port {} to answer", self.port)
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let limit = CONNECT.min(cx.deadline.left()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, limit) {
            Ok(_) => Ok(Finding::holds(format!("port {} answers", self.port))),
            Err(e) => {
                let error = Error::step_failed(format!("nothing answers on port {} of the machine", self.port)).because(e);
                Ok(Finding::Fails(error.next("see whether the program that should listen there is running")))
            }
        }
    }
}
