//! Streams that stay open: callback by callback, many at once, in whatever order a test wants.

use super::super::exchange::{Action, Exchange};
use super::super::state::{Phase, Stream};
use super::super::{Headers, LocalReply};
use super::{Instance, count};

/// One open stream of an instance. To be [ended](Instance::end).
pub struct Live {
    context: u32,
    state: Stream,
    /// What of the request's body waits in the proxy.
    waiting: Vec<u8>,
}

impl Live {
    /// The answer that the filter gave instead of the upstream, if it did.
    pub fn local_reply(&self) -> Option<&LocalReply> {
        self.state.reply.as_ref()
    }

    /// The request's headers, as the next filter sees them.
    pub fn request_headers(&self) -> &Headers {
        &self.state.request
    }

    /// The request's body, as far as it waits.
    pub fn waiting(&self) -> &[u8] {
        &self.waiting
    }

    /// The context's number.
    pub fn context(&self) -> u32 {
        self.context
    }

    /// The head goes on to the upstream, so it is out of the filter's reach.
    pub fn head_is_gone(&mut self) {
        self.state.request_visible = false;
    }
}

impl Instance {
    /// A request's head arrives; `end` when nothing follows.
    pub fn begin(&mut self, exchange: &Exchange, end: bool) -> (Live, Action) {
        self.take_seen();
        let stream = Stream {
            request: exchange.request_headers.clone(),
            properties: exchange.properties.clone(),
            phase: Phase::Stream,
            request_visible: true,
            ..Stream::default()
        };
        let mut live = Live { context: 0, state: stream, waiting: Vec::new() };
        live.context = self.within(&mut live, |instance, _| {
            let root = instance.root;
            instance.create_context(root).unwrap_or_else(|trap| panic!("{trap}"))
        });
        let lines = count(live.state.request.lines());
        let action = self.entered(&mut live, "proxy_on_request_headers", lines, end);
        if action == Action::Continue {
            live.head_is_gone();
        }
        (live, action)
    }

    /// A piece of the request's body arrives. What waits stays in the proxy, and is shown together.
    pub fn request_body(&mut self, live: &mut Live, piece: &[u8], end: bool) -> Action {
        live.waiting.extend_from_slice(piece);
        let size = u32::try_from(live.waiting.len()).expect("a body is short");
        live.state.body = Some((0, std::mem::take(&mut live.waiting)));
        let action = self.entered(live, "proxy_on_request_body", size, end);
        live.waiting = live.state.body.take().unwrap_or_default().1;
        if action == Action::Continue {
            live.head_is_gone();
        }
        action
    }

    /// The head of the upstream's response arrives.
    pub fn response_headers(&mut self, live: &mut Live, headers: &[(&str, &str)], end: bool) {
        live.state.response = headers.iter().copied().collect();
        live.state.response_visible = true;
        let lines = count(live.state.response.lines());
        self.entered(live, "proxy_on_response_headers", lines, end);
        live.state.response_visible = false;
    }

    /// A piece of the response's body arrives; returns what goes on to the client.
    pub fn response_body(&mut self, live: &mut Live, piece: &[u8], end: bool) -> Vec<u8> {
        live.state.body = Some((1, piece.to_vec()));
        let size = u32::try_from(piece.len()).expect("a body is short");
        let action = self.entered(live, "proxy_on_response_body", size, end);
        assert_eq!(action, Action::Continue, "a response must not be held up");
        live.state.body.take().unwrap_or_default().1
    }

    /// The stream is over.
    pub fn end(&mut self, mut live: Live) {
        let context = live.context;
        live.state.phase = Phase::Log;
        self.within(&mut live, |instance, _| {
            instance.enter::<_, ()>("proxy_on_log", context).unwrap_or_else(|trap| panic!("{trap}"));
            instance.enter::<_, u32>("proxy_on_done", context).unwrap_or_else(|trap| panic!("{trap}"));
            instance.enter::<_, ()>("proxy_on_delete", context).unwrap_or_else(|trap| panic!("{trap}"));
            instance.store.data_mut().contexts.remove(&context);
        });
    }

    /// The contexts whose requests the module let go on since this was asked last.
    pub fn resumed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.store.data_mut().resumed)
    }

    fn entered(&mut self, live: &mut Live, export: &'static str, size: u32, end: bool) -> Action {
        let context = live.context;
        self.within(live, |instance, _| {
            instance.action(export, (context, size, u32::from(end))).unwrap_or_else(|trap| panic!("{trap}"))
        })
    }

    /// With this stream as the one being worked on.
    fn within<T>(&mut self, live: &mut Live, work: impl FnOnce(&mut Self, u32) -> T) -> T {
        assert!(!self.failed, "this VM died of an earlier request");
        std::mem::swap(&mut self.store.data_mut().stream, &mut live.state);
        let result = work(self, live.context);
        std::mem::swap(&mut self.store.data_mut().stream, &mut live.state);
        result
    }
}
