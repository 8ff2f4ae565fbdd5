//! Questions to Kerberos servers, which the security library puts and does not carry itself.

use sspi::generator::NetworkRequest;
use sspi::network_client::NetworkProtocol;
use sspi::{Error, ErrorKind, Result};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The port of Kerberos servers.
const PORT: u16 = 88;

/// How long a Kerberos server may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A ticket is some kilobytes; more than this is none.
const LARGEST: usize = 1 << 20;

/// Sends a question and gives the answer, both with their length in front.
///
/// # Errors
/// When the server does not answer; the library may go on without Kerberos then.
pub(super) async fn ask(request: &NetworkRequest) -> Result<Vec<u8>> {
    let host = request.url.host_str().unwrap_or_default().to_owned();
    let port = request.url.port().unwrap_or(PORT);
    let failed = |e: &dyn std::fmt::Display| {
        Error::new(ErrorKind::NoAuthenticatingAuthority, format!("the Kerberos server {host}:{port}: {e}"))
    };
    match request.protocol {
        NetworkProtocol::Tcp => {}
        // Answers with tickets of Active Directory are larger than a datagram; all servers have both.
        _ => return Err(failed(&"write it as HOST or HOST:PORT; it is asked by TCP")),
    }
    let exchange = async {
        let mut stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.write_all(&request.data).await?;
        let length = stream.read_u32().await?;
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > LARGEST {
            return Err(std::io::Error::other(format!("an answer of {size} bytes is none")));
        }
        let mut answer = vec![0; size + 4];
        answer[..4].copy_from_slice(&length.to_be_bytes());
        stream.read_exact(&mut answer[4..]).await?;
        Ok(answer)
    };
    match timeout(LIMIT, exchange).await {
        Ok(answered) => answered.map_err(|e| failed(&e)),
        Err(_) => Err(failed(&format!("no answer within {LIMIT:?}"))),
    }
}
