//! Response bodies on a socket, with an optional pause in the middle.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// A body in one piece, or in two pieces with a pause between them.
#[derive(Debug)]
pub(crate) struct Halting {
    first: Bytes,
    rest: Bytes,
    halt: Duration,
    halted: Option<Pin<Box<Sleep>>>,
}

impl Halting {
    /// A body in one piece.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { first: bytes, rest: Bytes::new(), halt: Duration::ZERO, halted: None }
    }

    /// A body whose second half is delayed by this time.
    pub(crate) fn halfway(mut bytes: Bytes, halt: Duration) -> Self {
        let rest = bytes.split_off(bytes.len() / 2);
        Self { first: bytes, rest, halt, halted: None }
    }
}

impl Body for Halting {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let halt = self.halt;
        let halted = self.halted.get_or_insert_with(|| Box::pin(sleep(halt)));
        ready!(halted.as_mut().poll(context));
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.first.len() + self.rest.len()) as u64)
    }
}
