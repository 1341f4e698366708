//! What becomes of a destination as a whole: started, resumed, detached, forgotten.

use super::{SqlError, Store};
use crate::sync::settings::OnFailure;

/// A key is parked where `on_failure` says so, behind its oldest dead letter that nothing has overtaken.
pub(super) fn adopt(store: &Store, destination: i64, on_failure: OnFailure) -> Result<u64, SqlError> {
    let bar = "SELECT min(l.sequence) FROM dead_letters l
               WHERE l.destination=?1 AND l.key=deliveries.key AND l.overtaken=0";
    let parks = match on_failure {
        OnFailure::ParkKey => format!(
            "UPDATE deliveries SET state=2 WHERE destination=?1 AND state IN (0,1)
             AND key IN (SELECT key FROM dead_letters WHERE destination=?1 AND overtaken=0) AND sequence>({bar})"
        ),
        OnFailure::Skip | OnFailure::Block => {
            "UPDATE deliveries SET state=1 WHERE destination=?1 AND state=2".to_owned()
        }
    };
    let changed = store.execute(&parks, [destination])?;
    let stranded = format!(
        "UPDATE deliveries SET state=1 WHERE destination=?1 AND state=2
         AND coalesce(sequence<({bar}), 1)"
    );
    Ok((changed + store.execute(&stranded, [destination])?) as u64)
}

/// Ends a pause and every wait.
pub(super) fn resume(store: &Store, destination: i64) -> Result<u64, SqlError> {
    store.execute(
        "UPDATE deliveries SET next_at=0 WHERE destination=?1 AND state=0 AND next_at>0",
        [destination],
    )?;
    let sql = "UPDATE destinations SET paused=0, waits_until=0 WHERE id=?1";
    store.execute(sql, [destination]).map(|rows| rows as u64)
}

/// One that was detached starts at the newest change, which is told. Its dead letters are older than what
/// it is brought to meanwhile.
pub(super) fn attach(store: &Store, destination: i64) -> Result<u64, SqlError> {
    store.execute("DELETE FROM deliveries WHERE destination=?1 AND state IN (0,1,2,4)", [destination])?;
    store.execute("UPDATE dead_letters SET overtaken=1 WHERE destination=?1", [destination])?;
    store.execute(
        "UPDATE destinations SET detached=0, adopted_number=0,
         frontier=(SELECT value FROM meta WHERE name='last_sequence') WHERE id=?1",
        [destination],
    )?;
    super::last_sequence(store)
}

/// What waits for it may be deleted from now on.
pub(super) fn detach(store: &Store, destination: i64) -> Result<u64, SqlError> {
    store.execute("UPDATE destinations SET detached=1 WHERE id=?1", [destination]).map(|rows| rows as u64)
}

/// Everything that the journal has for it goes, and its name with it.
pub(super) fn forget(store: &Store, destination: i64) -> Result<u64, SqlError> {
    store.execute("DELETE FROM dead_letters WHERE destination=?1", [destination])?;
    let rows = store.execute("DELETE FROM deliveries WHERE destination=?1", [destination])?;
    store.execute("DELETE FROM destinations WHERE id=?1", [destination])?;
    Ok(rows as u64)
}
