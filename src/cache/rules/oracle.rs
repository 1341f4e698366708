//! What the RFCs let a shared cache do with a response, told from facts instead of from fields.
//!
//! It reads nothing: its tests draw facts, write them down as fields in every form that the RFCs know and
//! some that they do not, and hold what the rules make of the fields against what is said here. It is
//! written from the text of RFC 9111, 5861 and 9213, apart from the rules, and shares nothing with them.

/// A directive as it was meant, and as far as it was written well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    /// A name alone.
    Alone(&'static str),
    /// A name that takes no argument, with one.
    WithNonsense(&'static str),
    /// A number of seconds; `None`: what stands there is none.
    Seconds(&'static str, Option<u64>),
}

/// What a field that holds a date says, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Absent,
    Unreadable,
    At(i64),
}

impl Moment {
    const fn readable(self) -> Option<i64> {
        match self {
            Self::At(at) => Some(at),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

/// What is known of a response and its request.
#[derive(Clone, Debug)]
struct Facts {
    status: u16,
    /// Whether the request had Authorization.
    is_authorized: bool,
    /// Those that count: of a valid targeted field, else of Cache-Control, in their order.
    directives: Vec<Directive>,
    /// Expires, where it counts.
    expires: Moment,
    /// Date in seconds; `None`: absent or unreadable.
    date: Option<i64>,
    /// Last-Modified in seconds, as `date`.
    modified: Option<i64>,
    /// The number of seconds that Age says; zero where it says none.
    age: u64,
    varies_on_anything: bool,
    sets_cookie: bool,
    received_millis: i64,
    delay_millis: i64,
}

/// What the route adds where the response is silent.
#[derive(Clone, Copy, Debug)]
struct Route {
    while_revalidate: u64,
    if_error: u64,
    on_disconnect: u64,
    guesses: bool,
}

/// What has happened to the request that is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    /// It has just come.
    Asked,
    /// The source was asked and gave an error.
    Failed,
    /// The source could not be reached.
    Disconnected,
}

/// RFC 9111 1.2.2.
const SECONDS_MAX: u64 = 2_147_483_648;

const DAY: u64 = 86_400;

impl Facts {
    /// Whether a name is there, written well or not: enough to forbid.
    fn names(&self, wanted: &str) -> bool {
        self.directives.iter().any(|directive| {
            let (Directive::Alone(name) | Directive::WithNonsense(name) | Directive::Seconds(name, _)) =
                directive;
            *name == wanted
        })
    }

    /// Whether a name is there and written well: needed to allow.
    fn says(&self, wanted: &str) -> bool {
        self.directives.iter().any(|directive| match directive {
            Directive::Alone(name) | Directive::Seconds(name, Some(_)) => *name == wanted,
            Directive::WithNonsense(_) | Directive::Seconds(_, None) => false,
        })
    }

    /// The number that a name comes with first (4.2.1); what is no number is zero.
    fn seconds(&self, wanted: &str) -> Option<u64> {
        self.directives.iter().find_map(|directive| match directive {
            Directive::Seconds(name, number) if *name == wanted => Some(number.unwrap_or(0).min(SECONDS_MAX)),
            _ => None,
        })
    }

    /// 4.2.1, in its order.
    fn stated_lifetime(&self) -> Option<u64> {
        let sent = self.date.unwrap_or(self.received_millis / 1000);
        let until_expires = || match self.expires {
            Moment::Absent => None,
            Moment::Unreadable => Some(0),
            Moment::At(at) => Some(u64::try_from(at - sent).unwrap_or(0).min(SECONDS_MAX)),
        };
        self.seconds("s-maxage").or_else(|| self.seconds("max-age")).or_else(until_expires)
    }

    /// Reusable without a word on freshness (9110 15.1; 5.2.2.9).
    fn may_be_guessed(&self) -> bool {
        let defined = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501];
        defined.contains(&self.status) || self.says("public")
    }

    /// A tenth of the time for which it has not changed, a day at most (4.2.2), in milliseconds.
    fn guessed_millis(&self, route: Route) -> Option<u64> {
        let received = self.received_millis / 1000;
        let sent = self.date.unwrap_or(received).min(received);
        let unchanged = u64::try_from(sent - self.modified?).ok()?;
        (route.guesses && self.may_be_guessed()).then(|| (unchanged * 100).min(DAY * 1000))
    }

    /// In milliseconds; zero where nothing gives it any.
    fn lifetime_millis(&self, route: Route) -> i64 {
        let stated = self.stated_lifetime().map(|seconds| seconds * 1000);
        let millis = stated.or_else(|| self.guessed_millis(route)).unwrap_or(0);
        i64::try_from(millis).unwrap_or(i64::MAX)
    }

    /// `current_age` (4.2.3).
    fn age_millis(&self, now_millis: i64) -> i64 {
        let received = self.received_millis / 1000;
        let apparent = (received - self.date.unwrap_or(received)).max(0) * 1000;
        let told = i64::try_from(self.age.min(SECONDS_MAX) * 1000).unwrap_or(i64::MAX) + self.delay_millis;
        apparent.max(told) + (now_millis - self.received_millis)
    }

    /// RFC 9111 3, item by item.
    fn may_be_stored(&self) -> bool {
        self.nothing_forbids() && (self.stated_lifetime().is_some() || self.may_be_guessed())
    }

    /// All items but the last.
    fn nothing_forbids(&self) -> bool {
        let is_final = self.status >= 200;
        let is_part_of_another = [206, 304].contains(&self.status);
        // RFC 6585 3 to 6.
        let is_forbidden = [428, 429, 431, 511].contains(&self.status);
        let is_known = self.status < 506 && ![299, 399, 499].contains(&self.status);
        let is_understood = is_known || !self.names("must-understand");
        let no_store = self.names("no-store") && !self.says("must-understand");
        let may_be_shared = !self.is_authorized
            || self.says("public")
            || self.says("must-revalidate")
            || self.says("s-maxage");
        is_final
            && !is_part_of_another
            && !is_forbidden
            && is_understood
            && !no_store
            && !self.names("private")
            && may_be_shared
            && !self.varies_on_anything
            && !self.sets_cookie
    }

    /// RFC 9111 4: whether it may answer without the source's word.
    fn may_be_used(&self, route: Route, situation: Situation, now_millis: i64) -> bool {
        if !self.may_be_stored() || self.names("no-cache") {
            return false;
        }
        let stale_for = self.age_millis(now_millis) - self.lifetime_millis(route);
        if stale_for < 0 {
            return true;
        }
        if self.names("must-revalidate") || self.names("proxy-revalidate") {
            return false;
        }
        // What the source says of staleness stands; what it does not say the route may add, unless
        // s-maxage asks for validation (5.2.2.10), or nothing made it fresh in the first place.
        let was_ever_fresh = self.stated_lifetime().is_some() || self.guessed_millis(route).is_some();
        let added = |seconds: u64| if self.names("s-maxage") || !was_ever_fresh { 0 } else { seconds };
        let window = |name: &str, given: u64| self.seconds(name).unwrap_or(added(given)).min(DAY);
        let seconds = match situation {
            Situation::Asked => window("stale-while-revalidate", route.while_revalidate),
            Situation::Failed => window("stale-if-error", route.if_error),
            Situation::Disconnected => {
                window("stale-if-error", route.if_error).max(added(route.on_disconnect))
            }
        };
        stale_for < i64::try_from(seconds * 1000).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests;
