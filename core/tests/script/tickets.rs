//! How a transcript names questions and tickets.

use timerose_core::io::Ticket;

use super::{name, node, number};

/// Questions of jobs are numbered from 2^62, those of searches from 2^63, inquiries from 3 * 2^62.
pub fn shown(query: u64) -> String {
    match query {
        0xc000_0000_0000_0000.. => format!("I+{}", query - (3 << 62)),
        0x8000_0000_0000_0000.. => format!("T+{}", query - (1 << 63)),
        0x4000_0000_0000_0000.. => format!("J+{}", query - (1 << 62)),
        _ => query.to_string(),
    }
}

/// The number that is shown so.
pub fn query_number(word: &str) -> u64 {
    let above = |prefix: &str, first: u64| word.strip_prefix(prefix).map(|rest| number(rest) + first);
    above("J+", 1 << 62).or_else(|| above("T+", 1 << 63)).or_else(|| above("I+", 3 << 62)).unwrap_or_else(|| number(word))
}

pub fn told(ticket: &Ticket) -> String {
    match ticket {
        Ticket::Call(id) => format!("call/{id}"),
        Ticket::Work(id) => format!("work/{id}"),
        Ticket::Job(id) => format!("job/{id}"),
        Ticket::JobMemo(query) => format!("jobmemo/{}", query - (1 << 62)),
        Ticket::Inquiry(query) => format!("inquiry/{}", query - (3 << 62)),
        Ticket::Inform(from, query) => format!("inform/{}/{query}", name(from)),
        Ticket::Give(from, query) => format!("give/{}/{query}", name(from)),
        Ticket::Search(query) => format!("search/{}", query - (1 << 63)),
        Ticket::Recall(from, query) => format!("recall/{}/{query}", name(from)),
        Ticket::JobHave(query) => format!("jobhave/{}", query - (1 << 62)),
        Ticket::Hold(from, batch) => format!("hold/{}/{batch}", name(from)),
        Ticket::Holds(from, query) => format!("holds/{}/{query}", name(from)),
        Ticket::Accept(id) => format!("accept/{id}"),
        Ticket::End(id) => format!("end/{id}"),
        Ticket::Keep(id) => format!("keep/{id}"),
    }
}

pub fn ticket(word: &str) -> Ticket {
    let parts: Vec<&str> = word.split('/').collect();
    match parts[..] {
        ["call", id] => Ticket::Call(number(id)),
        ["work", id] => Ticket::Work(number(id)),
        ["accept", id] => Ticket::Accept(number(id)),
        ["end", id] => Ticket::End(number(id)),
        ["keep", id] => Ticket::Keep(number(id)),
        ["job", id] => Ticket::Job(number(id)),
        ["jobhave", query] => Ticket::JobHave(number(query) + (1 << 62)),
        ["jobmemo", query] => Ticket::JobMemo(number(query) + (1 << 62)),
        ["inquiry", query] => Ticket::Inquiry(number(query) + (3 << 62)),
        ["inform", from, query] => Ticket::Inform(node(from), number(query)),
        ["give", from, query] => Ticket::Give(node(from), number(query)),
        ["search", query] => Ticket::Search(number(query) + (1 << 63)),
        ["recall", from, query] => Ticket::Recall(node(from), number(query)),
        ["hold", from, batch] => Ticket::Hold(node(from), number(batch)),
        ["holds", from, query] => Ticket::Holds(node(from), number(query)),
        _ => panic!("no such ticket: {word}"),
    }
}
