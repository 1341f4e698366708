//! Clients' Idempotency-Keys: how long they hold, and what of them survives what.

use super::*;
use crate::clock::Timestamp;

const KEY: ClientKey = ClientKey { scope: [1; 32], fingerprint: [2; 32] };

fn answer() -> KeptAnswer {
    let fields = vec![("x-own".to_owned(), b"kept".to_vec())];
    KeptAnswer { head: KeptHead { status: 201, fields }, body: Bytes::from_static(b"made") }
}

async fn start(data: &Path, clock: &Clock) -> Arc<Engine> {
    Engine::start(settings(data, vec![]), clock.clone(), ports(vec![]).0).await.unwrap()
}

/// Begins a write with the key.
async fn begin(engine: &Arc<Engine>) -> Intent {
    let Claimed::New(claim) = engine.claim(KEY).await.unwrap() else { panic!("the key is used") };
    let draft = Draft { claim: Some(claim), ..draft(Method::POST, "/k", &[]) };
    engine.begin(draft, etag()).await.unwrap()
}

#[tokio::test]
async fn an_answer_is_given_again_for_a_day_and_over_restarts() {
    let data = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_millis(1_700_000_000_000));
    let first = start(data.path(), &clock).await;
    let intent = begin(&first).await;
    let id = intent.id();
    assert_eq!(first.claim(KEY).await.err(), Some(ClaimError::Running));
    intent.commit(None, Some(answer())).await.unwrap();
    first.stop(DEADLINE).await;
    drop(first);

    clock.advance(Duration::from_hours(24) - Duration::from_millis(1));
    let second = start(data.path(), &clock).await;
    match second.claim(KEY).await.unwrap() {
        Claimed::Answered(of, kept) => assert_eq!((of, *kept), (id, answer())),
        other => panic!("{other:?}"),
    }
    let other = ClientKey { fingerprint: [3; 32], ..KEY };
    assert_eq!(second.claim(other).await.err(), Some(ClaimError::OtherContent));
    clock.advance(Duration::from_millis(1));
    assert!(matches!(second.claim(other).await, Ok(Claimed::New(_))), "its day is over");
    second.stop(DEADLINE).await;
}

#[tokio::test]
async fn a_key_holds_as_long_as_its_change_is_in_doubt() {
    let data = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_millis(1_700_000_000_000));
    let engine = start(data.path(), &clock).await;
    let mut intent = begin(&engine).await;
    let id = intent.id();
    intent.sent();
    intent.doubt().await;
    assert_eq!(engine.claim(KEY).await.err(), Some(ClaimError::InDoubt(id)));
    clock.advance(Duration::from_hours(48));
    engine.inner.journal.write(Record::ForgetAnswers(Forgetting::Expired)).await.unwrap();
    assert_eq!(engine.claim(KEY).await.err(), Some(ClaimError::InDoubt(id)), "not forgotten either");
    engine.resolve(id, Resolution::Committed).await.unwrap();
    engine.inner.journal.write(Record::ForgetAnswers(Forgetting::Expired)).await.unwrap();
    assert!(matches!(engine.claim(KEY).await, Ok(Claimed::New(_))), "decided, and older than a day");
    engine.stop(DEADLINE).await;
}

#[tokio::test]
async fn what_came_to_nothing_may_be_tried_again_and_what_happened_may_not() {
    let data = tempfile::tempdir().unwrap();
    let engine = start(data.path(), &Clock::system()).await;
    begin(&engine).await.refused(None).await.unwrap();
    let again = begin(&engine).await;
    let id = again.id();
    again.commit(None, None).await.unwrap();
    assert_eq!(engine.claim(KEY).await.err(), Some(ClaimError::Unkept(id)));
    engine.stop(DEADLINE).await;
}

#[tokio::test]
async fn a_journal_that_fills_up_gives_up_contents_and_not_that_it_happened() {
    let data = tempfile::tempdir().unwrap();
    let engine = start(data.path(), &Clock::system()).await;
    let intent = begin(&engine).await;
    let id = intent.id();
    intent.commit(None, Some(answer())).await.unwrap();
    engine.inner.journal.write(Record::ForgetAnswers(Forgetting::Contents)).await.unwrap();
    assert_eq!(engine.claim(KEY).await.err(), Some(ClaimError::Unkept(id)));
    engine.stop(DEADLINE).await;
}

#[tokio::test]
async fn what_was_accepted_is_said_again_whatever_has_become_of_it() {
    let data = tempfile::tempdir().unwrap();
    let first = start(data.path(), &Clock::system()).await;
    let Claimed::New(claim) = first.claim(KEY).await.unwrap() else { panic!("the key is used") };
    let draft = Draft { claim: Some(claim), ..draft(Method::POST, "/k", &[]) };
    let id = first.accept(draft, OnRefusal::Skip).await.unwrap();
    first.stop(DEADLINE).await;
    drop(first);
    let second = start(data.path(), &Clock::system()).await;
    second.inner.journal.write(Record::outcome(id, Verdict::Aborted)).await.unwrap();
    assert!(matches!(second.claim(KEY).await, Ok(Claimed::Accepted(of)) if of == id));
    second.stop(DEADLINE).await;
}
