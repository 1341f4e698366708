use super::*;
use crate::cache::purge::Purge;

fn at(millis: u64) -> LogPosition {
    LogPosition { millis, sequence: 0 }
}

/// Purges under the numbers from 1 on, each in the place of its number.
fn folded(purges: impl IntoIterator<Item = Purge>, oldest_millis: u64) -> Checkpoint {
    let (tables, mut positions) = (Tables::new(7), Positions::begin(Fence(0)));
    let mut last = at(0);
    for (purge, millis) in purges.into_iter().zip(1..) {
        let number = tables.apply(&[purge], PurgeMode::Hard, Timestamp::default());
        last = at(millis);
        positions.applied(last, number);
    }
    let read = Read {
        epoch: 1,
        floor: at(0),
        position: last,
        appended: None,
        positions,
        newest: Vec::new(),
        ahead_millis: 0,
        oldest_millis,
    };
    Checkpoint::fold(&tables, read)
}

#[test]
fn the_newest_of_each_name_is_kept_in_the_order_of_the_log() {
    let tag = |name: &str| Purge::Tag(name.into());
    let checkpoint = folded([tag("a"), tag("b"), tag("a"), Purge::All], 0);
    let places: Vec<_> = checkpoint.purges.iter().map(|purge| purge.position.millis).collect();
    assert_eq!((places, checkpoint.floor, checkpoint.position), (vec![2, 3, 4], at(0), at(4)));
    assert_eq!(Checkpoint::decode(&checkpoint.encode(), &Tables::new(7)), Some(checkpoint));
}

#[test]
fn what_is_older_than_anything_stored_is_dropped_and_counts_as_unknown() {
    let checkpoint = folded((0..10).map(|number| Purge::Tag(number.to_string())), 4);
    let places: Vec<_> = checkpoint.purges.iter().map(|purge| purge.position.millis).collect();
    assert_eq!((places, checkpoint.floor), ((4..=10).collect(), at(3)));
}

#[test]
fn i10_its_bytes_are_bounded_and_what_does_not_fit_counts_as_unknown() {
    let prefix =
        |number: u32| Purge::Prefix { authority: None, path: format!("/{number}{}", "x".repeat(8000)) };
    let checkpoint = folded((0..900).map(prefix), 0);
    let bytes = checkpoint.encode().len();
    assert!((BYTES_MAX / 2..BYTES_MAX).contains(&bytes), "{bytes}");
    let first = checkpoint.purges.first().unwrap().position.millis;
    assert!(first > 1 && checkpoint.floor == at(first - 1), "{first} {:?}", checkpoint.floor);
    // Of keys and tags as many fit as are remembered.
    let path = |number: u32| Purge::Path { authority: "h".into(), path: number.to_string() };
    let checkpoint = folded((0..80_000).map(path), 0);
    assert_eq!((checkpoint.purges.len(), checkpoint.floor), (80_000, at(0)));
    assert!(checkpoint.encode().len() < BYTES_MAX / 2);
}

#[test]
fn another_format_and_other_names_are_nothing() {
    let encoded = folded([Purge::All], 0).encode();
    let tables = Tables::new(7);
    assert!(Checkpoint::decode(&encoded, &tables).is_some());
    assert!(Checkpoint::decode(&encoded, &Tables::new(8)).is_none());
    for at in 0..encoded.len() {
        assert!(Checkpoint::decode(&encoded[..at], &tables).is_none(), "{at}");
    }
    let mut other = encoded;
    other[0] += 1;
    assert!(Checkpoint::decode(&other, &tables).is_none());
}
