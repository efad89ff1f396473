//! The simulator behind HTTP/1.1 on a socket, with the ability to cut connections.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::{Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::api::answer::{IncomingRequest, Reply};
use crate::error::{Error, Result};
use crate::server::body::Halting;
use crate::simulator::{Face, Outcome, Simulator};
use hyper::header;

/// A byte budget that is never exhausted.
const UNLIMITED: usize = usize::MAX;

/// Serves the tenant until it is cancelled. Requests in flight are completed.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    simulator: Simulator,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<()> {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(converse(simulator.clone(), stream, stop.clone()));
            }
            Err(cause) if is_passing(&cause) => tokio::task::yield_now().await,
            Err(cause) => {
                return Err(Error::Socket(cause));
            }
        }
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

/// Whether the error concerns only one connection.
fn is_passing(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

async fn converse(simulator: Simulator, stream: TcpStream, stop: CancellationToken) {
    if let Err(cause) = stream.set_nodelay(true) {
        tracing::debug!(%cause, "the connection keeps its delay");
    }
    let scissors = Arc::new(Scissors::default());
    let line = Line { stream, scissors: Arc::clone(&scissors) };
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (simulator, scissors) = (simulator.clone(), Arc::clone(&scissors));
        async move { Ok::<_, std::convert::Infallible>(respond(&simulator, &scissors, request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).pipeline_flush(true);
    let connection = server.serve_connection(TokioIo::new(line), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(cause) = ended {
        tracing::debug!(%cause, "a connection ended early");
    }
}

async fn respond(
    simulator: &Simulator,
    scissors: &Scissors,
    request: hyper::Request<Incoming>,
) -> Response<Halting> {
    let authorization = request.headers().get(header::AUTHORIZATION);
    let call = IncomingRequest {
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        authorization: authorization.and_then(|value| value.to_str().ok()),
    };
    match simulator.exchange(&call, Face::Socket).await {
        Outcome::Whole(reply) => whole(reply),
        Outcome::Halting(reply, halt) => {
            let body = Halting::halfway(reply.body.clone(), halt);
            whole(reply).map(|_| body)
        }
        Outcome::Truncated(reply) => {
            // The status line and headers are a few hundred bytes, so about half of the body is missing.
            scissors.cut_after(512 + reply.body.len() / 2, false);
            whole(padded(reply))
        }
        Outcome::Reset => {
            scissors.cut_after(0, true);
            Response::new(Halting::whole(Bytes::new()))
        }
    }
}

fn whole(reply: Reply) -> Response<Halting> {
    let mut response = Response::new(Halting::whole(reply.body));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

/// Extends a body so that the cut is inside it.
fn padded(mut reply: Reply) -> Reply {
    let mut body = reply.body.to_vec();
    body.resize(body.len().max(2048) + 2048, b' ');
    reply.body = body.into();
    reply
}

/// The number of bytes after which a connection is cut, and how it is cut.
#[derive(Debug)]
struct Scissors {
    left: AtomicUsize,
    reset: AtomicBool,
}

impl Default for Scissors {
    fn default() -> Self {
        Self { left: AtomicUsize::new(UNLIMITED), reset: AtomicBool::new(false) }
    }
}

impl Scissors {
    fn cut_after(&self, bytes: usize, reset: bool) {
        self.reset.store(reset, Ordering::Relaxed);
        self.left.store(bytes, Ordering::Relaxed);
    }
}

/// A connection that can be cut.
#[derive(Debug)]
struct Line {
    stream: TcpStream,
    scissors: Arc<Scissors>,
}

impl Line {
    /// Number of bytes that may still be written. Writing more is an error.
    fn left(&self) -> io::Result<usize> {
        let left = self.scissors.left.load(Ordering::Relaxed);
        if left > 0 {
            return Ok(left);
        }
        if self.scissors.reset.load(Ordering::Relaxed) {
            self.stream.set_zero_linger()?;
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn spend(&self, bytes: usize) {
        let left = self.scissors.left.load(Ordering::Relaxed);
        if left != UNLIMITED {
            self.scissors.left.store(left.saturating_sub(bytes), Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let left = self.left()?;
        let allowed = bytes.get(..left).unwrap_or(bytes);
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, allowed))?;
        self.spend(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.left()? == UNLIMITED {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(context, first.map_or(&[], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
