//! The metrics, in the text format of OpenMetrics 1.0. `docs/metrics.md` lists them.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use std::fmt::{Display, Write};
use timerose_content::Stats;
use timerose_core::view::View;

use super::Shared;
use super::calls::ask;
use super::error::ApiError;
use crate::net::{NetStat, TopicKind, TopicStat};
use crate::ports::{ContentRequest, Counters, Kept};
use crate::telemetry::Telemetry;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`
pub(super) async fn metrics(State(api): Shared) -> Result<Response, ApiError> {
    let moved = ask(&api.ports.content, |answer| ContentRequest::Exchanged { answer }).await?.stats;
    let kept = ask(&api.ports.content, |answer| ContentRequest::Stat { answer }).await?;
    let mut page = Page(String::new());
    page.counted(&api.ports.counters, &moved, &api.ports.telemetry);
    page.kept(&kept);
    page.net(&api.ports.net.stat().await.ok_or_else(ApiError::ending)?);
    page.seen(&api.ports.view.borrow());
    page.gauge("timerose_work_waiting", "New work that waits for the loop.", Counters::read(&api.ports.counters.work_waiting));
    page.gauge("timerose_outputs_waiting", "Outputs that wait for a full driver.", Counters::read(&api.ports.counters.backlog));
    page.process();
    page.0.push_str("# EOF\n");
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], page.0).into_response())
}

/// The text as it grows. Writing to a string does not fail.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# TYPE {name} {kind}\n# HELP {name} {help}\n");
    }

    /// A counter; its sample is called `_total`.
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        let _ = writeln!(self.0, "{name}_total {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    /// What the drivers count.
    fn counted(&mut self, counters: &Counters, moved: &Stats, telemetry: &Telemetry) {
        let counted = [
            ("inputs", "Inputs that the core has taken.", &counters.inputs),
            ("messages_sent", "Messages sent to peers.", &counters.messages_out),
            ("messages_received", "Messages from peers.", &counters.messages_in),
            ("message_bytes_sent", "Bytes of messages sent to peers.", &counters.message_bytes_out),
            ("message_bytes_received", "Bytes of messages from peers.", &counters.message_bytes_in),
            ("messages_dropped", "Messages that could not be sent.", &counters.messages_dropped),
            ("streams_refused", "Streams refused as forged, truncated or oversized.", &counters.refused),
            ("envelopes_sent", "Envelopes published.", &counters.envelopes_out),
            ("envelopes_received", "Envelopes that were opened.", &counters.envelopes_in),
            ("envelopes_dropped", "Envelopes that found no room or no listener.", &counters.envelopes_dropped),
            ("envelopes_refused", "Envelopes refused as forged, altered or expired.", &counters.envelopes_refused),
            ("runs", "Runs of guests that ended.", &counters.runs),
        ];
        for (name, help, counter) in counted {
            self.counter(&format!("timerose_{name}"), help, Counters::read(counter));
        }
        self.counter("timerose_block_bytes_received", "Block bytes from peers.", moved.bytes_in);
        self.counter("timerose_block_bytes_sent", "Block bytes to peers.", moved.bytes_out);
        let [exported, dropped] = telemetry.exported();
        self.counter("timerose_traces_exported", "Records of traces that the collector took.", exported);
        self.counter("timerose_traces_dropped", "Records of traces that no collector took in time.", dropped);
        let calls = "timerose_call_duration_seconds";
        self.family(calls, "histogram", "How long calls took that this node's API was asked for.");
        telemetry.calls().write(calls, &mut self.0);
    }

    /// What the store keeps.
    fn kept(&mut self, kept: &Kept) {
        self.gauge("timerose_store_blocks", "Blocks that are kept.", kept.blocks);
        self.gauge("timerose_store_bytes", "Bytes in them.", kept.bytes);
        let max = kept.max.map_or("+Inf".to_string(), |max| max.to_string());
        self.gauge("timerose_store_max_bytes", "Bytes that they may take.", max);
        self.counter("timerose_store_collections", "Collections of garbage that ended well.", kept.room.collections);
        self.counter("timerose_store_freed_bytes", "Bytes in the blocks that these removed.", kept.room.freed);
        self.counter("timerose_store_refused", "Puts refused for want of room within the bound.", kept.room.refused);
    }

    /// What the swarm counts.
    fn net(&mut self, stat: &NetStat) {
        type Of = fn(&TopicStat) -> u64;
        let counted: [(&str, &str, Of); 7] = [
            ("received", "Messages that came on topics and were new.", |of| of.received),
            ("received_bytes", "Their bytes.", |of| of.received_bytes),
            ("sent", "Messages published or passed on, each once.", |of| of.sent),
            ("sent_bytes", "Their bytes.", |of| of.sent_bytes),
            ("dropped", "Own messages that found no listener or no room.", |of| of.dropped),
            ("refused", "Gossip that was malformed, misplaced or replayed.", |of| of.refused),
            ("limited", "Gossip over the pace of the peer that brought it.", |of| of.limited),
        ];
        for (name, help, of) in counted {
            self.topics(&format!("timerose_gossip_{name}"), "counter", help, stat, of);
        }
        let now: [(&str, &str, Of); 3] = [
            ("topics", "Topics that this node listens to.", |of| of.joined),
            ("listeners", "Connected peers that listen, summed over the topics.", |of| of.listeners),
            ("mesh_peers", "Peers in the mesh of gossip, summed over the topics.", |of| of.mesh),
        ];
        for (name, help, of) in now {
            self.topics(&format!("timerose_gossip_{name}"), "gauge", help, stat, of);
        }
        let slow = "Copies of gossip that a slow peer did not take.";
        self.counter("timerose_gossip_copies_dropped", slow, stat.copies_dropped);
        self.counter("timerose_kad_requests_received", "Requests of Kademlia that came.", stat.kad_in);
        self.counter("timerose_kad_requests_sent", "Requests of Kademlia in queries that ended.", stat.kad_out);
        let connections = "timerose_connections";
        self.family(connections, "gauge", "Connections, by transport and by who opened them.");
        for (transport, of) in &stat.connections {
            for (direction, value) in [("in", of.inbound), ("out", of.outbound)] {
                let _ = writeln!(self.0, "{connections}{{transport=\"{transport}\",direction=\"{direction}\"}} {value}");
            }
        }
        self.gauge("timerose_relay_reservations", "Peers that wait to be reached through this node.", stat.reservations);
        self.gauge("timerose_relay_circuits", "Connections of others that go through this node.", stat.circuits);
    }

    /// A family with a sample for each kind of topics.
    fn topics(&mut self, name: &str, kind: &str, help: &str, stat: &NetStat, of: fn(&TopicStat) -> u64) {
        self.family(name, kind, help);
        let ending = if kind == "counter" { "_total" } else { "" };
        for (topic, figures) in TopicKind::ALL.iter().zip(&stat.topics) {
            let _ = writeln!(self.0, "{name}{ending}{{topic=\"{}\"}} {}", topic.name(), of(figures));
        }
    }

    /// What the core's read model tells.
    fn seen(&mut self, view: &View) {
        let letters = [
            ("sent", "Letters sent for the first time.", view.letters.sent),
            ("resent", "Letters sent again.", view.letters.again),
            ("taken", "Letters taken.", view.letters.taken),
            ("doubled", "Letters that came again, or were replayed.", view.letters.doubles),
            ("refused", "Letters for another life of this node, or of one of its sender.", view.letters.refused),
            ("dropped", "Messages given up: no room, no recipient, ten minutes of silence.", view.letters.dropped),
        ];
        for (name, help, value) in letters {
            self.counter(&format!("timerose_letters_{name}"), help, value);
        }
        let connected = view.members.values().filter(|member| member.connected).count();
        self.gauge("timerose_members", "Members known, this node included.", view.members.len());
        self.gauge("timerose_members_connected", "Members in reach, this node included.", connected);
        self.gauge("timerose_calls", "Calls that this node makes.", view.calls);
        self.gauge("timerose_calls_waiting", "Of those, calls that wait.", view.calls_waiting);
        self.gauge("timerose_jobs", "Jobs that this node runs.", view.jobs);
        self.gauge("timerose_slots_used", "Slots in use.", view.slots_used);
        self.gauge("timerose_work", "Work that was admitted and has not ended.", view.work);
    }

    /// What Linux says of this process, under the names that Prometheus clients give it.
    fn process(&mut self) {
        const KIB: u64 = 1024;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let open_fds = std::fs::read_dir("/proc/self/fd").map(|entries| entries.count() as u64).ok();
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory.", of("VmRSS:").map(|kib| kib * KIB)),
            ("process_open_fds", "Open file descriptors.", open_fds),
            ("process_threads", "Threads.", of("Threads:")),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                self.gauge(name, help, value);
            }
        }
    }
}
