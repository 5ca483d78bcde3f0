//! A TCP proxy on loopback that breaks what passes through it, on command.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Connections are closed before anything of the request arrives.
    CutBefore,
    /// Requests arrive, and their answers are lost.
    CutAnswer,
    /// Requests arrive whole, and the answer is cut after so many bytes.
    CutAnswerAfter(usize),
    /// Everything takes so much longer, either way.
    Delay(Duration),
    /// Nothing passes, and nothing is closed.
    Stall,
}

/// Forwards to one address. Dropped, it closes.
pub struct FaultProxy {
    pub address: SocketAddr,
    fault: Arc<Mutex<Fault>>,
    cut: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    pub async fn to(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let fault = Arc::new(Mutex::new(Fault::None));
        let cut = watch::Sender::new(0);
        let (shared, cuts) = (Arc::clone(&fault), cut.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, target, Arc::clone(&shared), cuts.subscribe()));
            }
        });
        Ok(Self { address, fault, cut, task })
    }

    /// From now on, also for connections that are open.
    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Closes every connection that is open.
    pub fn cut_all(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut_all();
    }
}

async fn connection(near: TcpStream, target: SocketAddr, fault: Arc<Mutex<Fault>>, mut cut: watch::Receiver<u64>) {
    let now = *fault.lock().unwrap_or_else(PoisonError::into_inner);
    if now == Fault::CutBefore {
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        _ = async {
            tokio::join!(pump(near_in, far_out, &fault, false), pump(far_in, near_out, &fault, true))
        } => {}
        _ = cut.changed() => {}
    }
}

/// Copies one way until either end closes or the fault says so.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, fault: &Mutex<Fault>, answer: bool) {
    let mut buffer = vec![0; 64 << 10];
    let mut passed = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let now = *fault.lock().unwrap_or_else(PoisonError::into_inner);
        let mut allowed = read;
        match now {
            Fault::CutAnswer if answer => allowed = 0,
            Fault::CutAnswerAfter(bytes) if answer => allowed = read.min(bytes.saturating_sub(passed)),
            Fault::None | Fault::CutBefore | Fault::CutAnswer | Fault::CutAnswerAfter(_) => {}
            Fault::Delay(by) => tokio::time::sleep(by).await,
            Fault::Stall => std::future::pending().await,
        }
        if to.write_all(&buffer[..allowed]).await.is_err() || allowed < read {
            break;
        }
        passed += read;
    }
    drop(to.shutdown().await);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each connection's first bytes with `hello`.
    async fn greeter() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 16];
                    if stream.read(&mut buffer).await.is_ok() {
                        drop(stream.write_all(b"hello").await);
                    }
                });
            }
        });
        address
    }

    async fn ask(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        drop(stream.write_all(b"?").await);
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer).await);
        answer
    }

    #[tokio::test]
    async fn each_fault_does_what_it_says() {
        let proxy = FaultProxy::to(greeter().await).await.unwrap();
        assert_eq!(ask(proxy.address).await, "hello");
        for (fault, answer) in [
            (Fault::CutBefore, ""),
            (Fault::CutAnswer, ""),
            (Fault::CutAnswerAfter(2), "he"),
            (Fault::Delay(Duration::from_millis(5)), "hello"),
            (Fault::None, "hello"),
        ] {
            proxy.set(fault);
            assert_eq!(ask(proxy.address).await, answer, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn open_connections_can_be_cut() {
        let proxy = FaultProxy::to(greeter().await).await.unwrap();
        proxy.set(Fault::Stall);
        let asked = tokio::spawn(ask(proxy.address));
        let mut idle = TcpStream::connect(proxy.address).await.unwrap();
        idle.write_all(b"?").await.unwrap();
        let mut byte = [0];
        let waits = tokio::time::timeout(Duration::from_millis(50), idle.read(&mut byte)).await;
        assert!(waits.is_err(), "nothing passes");
        proxy.cut_all();
        assert_eq!(asked.await.unwrap(), "");
    }
}
