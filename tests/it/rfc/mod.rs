//! What the RFCs of caching ask of a shared cache, section by section, as tables: a row says what the
//! source answers, what is asked, and what must come of it. The source's own count of requests decides
//! whether something was reused, not what Tidegate says of itself.

mod forwarding;
mod freshness;
mod groups;
mod interim;
mod invalidation;
mod methods;
mod ranges;
mod request_directives;
mod stale;
mod status;
mod storing;
mod validation;
mod vary;

use crate::support::{Answer, Ask, Received, Reply, ScriptedSource, gateway_for};

/// Who answered a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The source was asked once more.
    Source,
    /// The source was not asked.
    Store,
}

/// A request, and what must come of it. In values `{path}` is the row's own path.
#[derive(Clone, Debug)]
struct Turn {
    method: &'static str,
    below: &'static str,
    fields: Vec<(String, String)>,
    body: Option<String>,
    by: Option<By>,
    status: Option<u16>,
    text: Option<String>,
    /// Fields of the answer: the lines' values joined by `, `; `None`: absent.
    answered: Vec<(&'static str, Option<String>)>,
    /// As `answered`, of what the source got.
    forwarded: Vec<(&'static str, Option<String>)>,
    says: Vec<&'static str>,
    /// The least that Age may say, in seconds.
    age: Option<u64>,
}

/// A turn takes no longer than this many seconds.
const TURN_SECONDS_MAX: u64 = 60;

/// A request with this method for the row's path.
fn ask(method: &'static str) -> Turn {
    Turn {
        method,
        below: "",
        fields: Vec::new(),
        body: None,
        by: None,
        status: None,
        text: None,
        answered: Vec::new(),
        forwarded: Vec::new(),
        says: Vec::new(),
        age: None,
    }
}

fn get() -> Turn {
    ask("GET")
}

impl Turn {
    /// Asks for what is below the row's path: `/more` or `?query`.
    fn at(mut self, below: &'static str) -> Self {
        self.below = below;
        self
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn body(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    /// The source must be asked.
    fn forwarded(mut self) -> Self {
        self.by = Some(By::Source);
        self
    }

    /// The source must not be asked.
    fn reused(mut self) -> Self {
        self.by = Some(By::Store);
        self
    }

    fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    fn text(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    fn has(mut self, name: &'static str, value: &str) -> Self {
        self.answered.push((name, Some(value.to_owned())));
        self
    }

    fn lacks(mut self, name: &'static str) -> Self {
        self.answered.push((name, None));
        self
    }

    /// The source must get the field with this value.
    fn sends(mut self, name: &'static str, value: &str) -> Self {
        self.forwarded.push((name, Some(value.to_owned())));
        self
    }

    /// The source must not get the field.
    fn withholds(mut self, name: &'static str) -> Self {
        self.forwarded.push((name, None));
        self
    }

    /// Cache-Status must have this parameter.
    fn says(mut self, parameter: &'static str) -> Self {
        self.says.push(parameter);
        self
    }

    /// Age must be so many seconds, and what the turn took.
    fn aged(mut self, seconds: u64) -> Self {
        self.age = Some(seconds);
        self
    }

    fn ask_for(&self, path: &str) -> Ask {
        let ask = Ask::new(self.method, &format!("{path}{}", self.below));
        let ask = self
            .fields
            .iter()
            .fold(ask, |ask, (name, value)| ask.field(name, &value.replace("{path}", path)));
        match &self.body {
            Some(body) => ask.body(body.as_str()),
            None => ask,
        }
    }

    /// What is not as it must be.
    fn faults(&self, path: &str, answer: &Answer, received: &[Received]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut wrong = |what: &str, wanted: String, got: String| {
            if wanted != got {
                faults.push(format!("{what}: wanted {wanted}, got {got}"));
            }
        };
        if let Some(by) = self.by {
            let asked = usize::from(by == By::Source);
            wrong("requests at the source", asked.to_string(), received.len().to_string());
        }
        if let Some(status) = self.status {
            wrong("status", status.to_string(), answer.status.to_string());
        }
        if let Some(text) = &self.text {
            wrong("content", text.clone(), answer.text());
        }
        let shown = |value: Option<String>| value.map_or("nothing".to_owned(), |value| format!("{value:?}"));
        let wanted =
            |value: &Option<String>| shown(value.as_ref().map(|value| value.replace("{path}", path)));
        for (name, value) in &self.answered {
            let got = answer.fields.has(name).then(|| answer.fields.list(name));
            wrong(name, wanted(value), shown(got));
        }
        for (name, value) in &self.forwarded {
            let got = received.last().and_then(|last| last.fields.has(name).then(|| last.fields.list(name)));
            wrong(&format!("forwarded {name}"), wanted(value), shown(got));
        }
        if let Some(least) = self.age {
            let age = answer.field("Age");
            if !age.parse().is_ok_and(|age: u64| (least..least + TURN_SECONDS_MAX).contains(&age)) {
                wrong("Age", least.to_string(), age.to_owned());
            }
        }
        for parameter in &self.says {
            if !answer.says(parameter) {
                wrong("Cache-Status", (*parameter).to_owned(), answer.cache_status().join("; "));
            }
        }
        faults
    }
}

/// What the source answers, one reply after the other, and what is asked.
struct Row {
    name: String,
    replies: Vec<Reply>,
    /// What is below the row's path, and what the source always answers there.
    beside: Vec<(&'static str, Reply)>,
    turns: Vec<Turn>,
}

/// A row; its name begins with the section.
fn row(name: impl Into<String>) -> Row {
    Row { name: name.into(), replies: Vec::new(), beside: Vec::new(), turns: Vec::new() }
}

impl Row {
    /// The source's next reply; the last one stays.
    fn source(mut self, reply: Reply) -> Self {
        self.replies.push(reply);
        self
    }

    /// What the source always answers below the row's path.
    fn beside(mut self, below: &'static str, reply: Reply) -> Self {
        self.beside.push((below, reply));
        self
    }

    fn then(mut self, turn: Turn) -> Self {
        self.turns.push(turn);
        self
    }

    /// A first GET that the source answers.
    fn filled(self, reply: Reply) -> Self {
        self.source(reply).then(get().forwarded())
    }
}

/// Plays all rows in front of one gateway, whose route has what `route` adds; fails with every fault.
async fn play(route: &str, rows: impl IntoIterator<Item = Row>) {
    let source = ScriptedSource::start().await;
    let gateway = gateway_for(&source, route).await;
    let mut faults = Vec::new();
    for (number, row) in rows.into_iter().enumerate() {
        let path = format!("/{number}");
        let replies: Vec<Reply> = row.replies.into_iter().map(|reply| reply.in_place(&path)).collect();
        source.sequence(&path, replies.clone());
        for (below, reply) in row.beside {
            source.always(&format!("{path}{below}"), reply.in_place(&path));
        }
        for (index, turn) in row.turns.iter().enumerate() {
            let before = source.requests.all().len();
            let answer = gateway.send(turn.ask_for(&path)).await;
            let received = source.requests.all().split_off(before);
            for fault in turn.faults(&path, &answer, &received) {
                faults.push(format!("{} (turn {}): {fault}", row.name, index + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
