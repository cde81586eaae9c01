//! The tables. Money is INTEGER pico-dollars, time INTEGER microseconds since the epoch, counts INTEGER with the
//! bits of a u64, ids the 16 bytes of the UUID.
//!
//! A change of anything here raises [`VERSION`], which the file carries as its `user_version`. A step that was
//! released is never edited: a new file takes every step in turn, an older one those that it lacks.

/// The ledger's file below the data folder.
pub const FILE_NAME: &str = "meter.db";
/// Locked by the one daemon that writes; SQLite's own locks come and go with each transaction.
pub(super) const LOCK_NAME: &str = "meter.lock";
pub(super) const VERSION: i64 = 4;

/// The scripts that lead from a version, its index, to the next one.
pub(super) const STEPS: [&[&str]; 4] = [&[FIRST], &[SECOND], THIRD, &[FOURTH]];

const FIRST: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('clean', 1);
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    parent INTEGER NOT NULL,
    budget INTEGER,
    config_budget INTEGER,
    smallest_hold INTEGER,
    state TEXT NOT NULL DEFAULT 'open',
    spent INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,
    exchanges INTEGER NOT NULL DEFAULT 0,
    refusals INTEGER NOT NULL DEFAULT 0,
    slot INTEGER UNIQUE,
    generation INTEGER
) STRICT;
INSERT INTO accounts (id, path, parent) VALUES (0, 'host', 0);
CREATE TABLE holds (
    id BLOB PRIMARY KEY,
    account INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    clamp INTEGER,
    time INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    start_ticks INTEGER NOT NULL,
    exe TEXT NOT NULL,
    provider TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    host TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    requested_model TEXT,
    stream INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE rows (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    resolves BLOB,
    account INTEGER NOT NULL,
    agent INTEGER NOT NULL,
    time INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    start_ticks INTEGER NOT NULL,
    exe TEXT NOT NULL,
    provider TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    host TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    model TEXT,
    requested_model TEXT,
    status INTEGER,
    stream INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    input_uncached INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write_5m INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    cache_write_other INTEGER NOT NULL,
    input_audio INTEGER NOT NULL,
    input_image INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    output_audio INTEGER NOT NULL,
    output_image INTEGER NOT NULL,
    usage_quality TEXT NOT NULL,
    held INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    price TEXT NOT NULL,
    clamped INTEGER,
    outcome TEXT NOT NULL,
    ttfb_ms INTEGER,
    duration_ms INTEGER NOT NULL,
    request_id TEXT,
    reason TEXT,
    count INTEGER NOT NULL
) STRICT;
-- A hold is resolved once, whatever the code above believes.
CREATE UNIQUE INDEX rows_resolves ON rows (resolves) WHERE resolves IS NOT NULL;
-- Both end in seq, so that the last rows of an account or agent are read from the end of one range.
CREATE INDEX rows_account ON rows (account);
CREATE INDEX rows_agent ON rows (agent);
CREATE TABLE fundings (
    seq INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    account INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    actor_uid INTEGER NOT NULL
) STRICT;
CREATE INDEX fundings_account ON fundings (account, amount);
CREATE TABLE processes (
    account INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    start_ticks INTEGER NOT NULL,
    exe TEXT NOT NULL,
    spent INTEGER NOT NULL,
    exchanges INTEGER NOT NULL,
    PRIMARY KEY (account, pid, start_ticks, exe)
) STRICT, WITHOUT ROWID;
";

// `detail` is JSON, and NULL where there is none. `corrects` is the earlier row that a row completes or corrects.
// Of a result, `hold` is what was set aside for it, while that is outstanding; `row`, `account` and `charged` are
// what was charged in its place.
const SECOND: &str = "
ALTER TABLE rows ADD COLUMN category TEXT NOT NULL DEFAULT 'llm';
ALTER TABLE rows ADD COLUMN notional INTEGER;
ALTER TABLE rows ADD COLUMN detail TEXT;
ALTER TABLE rows ADD COLUMN corrects BLOB;
ALTER TABLE holds ADD COLUMN category TEXT NOT NULL DEFAULT 'llm';
CREATE TABLE results (
    provider TEXT NOT NULL,
    result TEXT NOT NULL,
    state TEXT NOT NULL,
    time INTEGER NOT NULL,
    hold BLOB,
    row BLOB,
    account INTEGER,
    charged INTEGER,
    PRIMARY KEY (provider, result)
) STRICT, WITHOUT ROWID;
CREATE INDEX results_time ON results (time);
";

/// What each part of the product keeps since the third version.
const THIRD: &[&str] = &[THIRD_IDENTITY, THIRD_ROLLUPS, THIRD_LIMITS, THIRD_EVENTS];

// `ledger` tells this ledger from any other, `commits` its states from each other (see `mark.rs`).
const THIRD_IDENTITY: &str = "INSERT INTO meta VALUES ('ledger', random()), ('commits', 0);";

// Rows that were old enough, summed by UTC day. `model` is the answer's, else the request's, else empty.
const THIRD_ROLLUPS: &str = "
CREATE TABLE rollups (
    day INTEGER NOT NULL,
    account INTEGER NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    category TEXT NOT NULL,
    agent INTEGER NOT NULL,
    exchanges INTEGER NOT NULL,
    refusals INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    input_uncached INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write_5m INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    cache_write_other INTEGER NOT NULL,
    input_audio INTEGER NOT NULL,
    input_image INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    output_audio INTEGER NOT NULL,
    output_image INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    notional INTEGER NOT NULL,
    PRIMARY KEY (day, account, provider, model, category)
) STRICT, WITHOUT ROWID;
";

// What was used by quarter of an hour (counted from the epoch; 0 is everything older than is kept), of the account
// itself and not of those below it. `in_force` and `labels` are JSON.
const THIRD_LIMITS: &str = "
ALTER TABLE accounts ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN reason TEXT;
ALTER TABLE accounts ADD COLUMN status TEXT;
ALTER TABLE accounts ADD COLUMN labels TEXT;
ALTER TABLE accounts ADD COLUMN in_force TEXT;
ALTER TABLE holds ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0;
CREATE TABLE quarters (
    account INTEGER NOT NULL,
    quarter INTEGER NOT NULL,
    category TEXT NOT NULL,
    usd INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (account, quarter, category)
) STRICT, WITHOUT ROWID;
INSERT INTO quarters SELECT account, (time + duration_ms * 1000) / 900000000, category, sum(cost),
    sum(input_tokens + output_tokens), sum(CASE WHEN resolves IS NULL THEN 0 ELSE count END)
    FROM rows GROUP BY 1, 2, 3;
CREATE TABLE extensions (
    seq INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    actor_uid INTEGER NOT NULL
) STRICT;
";

// What people did, and what is unusual. `kind` is a name of ours, `text` a sentence.
const THIRD_EVENTS: &str = "
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    account INTEGER NOT NULL,
    kind TEXT NOT NULL,
    actor_uid INTEGER,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX events_account ON events (account);
";

// Of the labels of the rows that were summed up, those that all of them have: JSON, and NULL where there is none.
const FOURTH: &str = "ALTER TABLE rollups ADD COLUMN labels TEXT;";

pub(super) const INSERT_HOLD: &str = "INSERT INTO holds (id, account, amount, clamp, time, pid, start_ticks, exe, \
    provider, endpoint, host, method, path, requested_model, stream, category, tokens) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";

pub(super) const UPSERT_QUARTER: &str = "INSERT INTO quarters (account, quarter, category, usd, tokens, requests) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET \
    usd = min(usd + excluded.usd, 9223372036854775807), tokens = min(tokens + excluded.tokens, 9223372036854775807), \
    requests = requests + excluded.requests";

/// What lies before a quarter, into the one that stands for everything old. In two parts, each of which fits an
/// integer: SQLite's own sum of two amounts at their cap is an error.
pub(super) const FOLD_QUARTERS: &str = "INSERT INTO quarters (account, quarter, category, usd, tokens, requests) \
    SELECT account, 0, category, \
    min(sum(usd / 1000000000000) * 1000000000000 + sum(usd % 1000000000000), 9223372036854775807), \
    min(sum(tokens / 1000000000000) * 1000000000000 + sum(tokens % 1000000000000), 9223372036854775807), \
    sum(requests) FROM quarters WHERE quarter <> 0 AND quarter < ?1 GROUP BY account, category \
    ON CONFLICT DO UPDATE SET usd = min(usd + excluded.usd, 9223372036854775807), \
    tokens = min(tokens + excluded.tokens, 9223372036854775807), requests = requests + excluded.requests";

/// What the rows say of the quarters, where that is more than is known of them.
pub(super) const RAISE_QUARTERS: &str = "INSERT INTO quarters (account, quarter, category, usd, tokens, requests) \
    SELECT account, (time + duration_ms * 1000) / 900000000, category, sum(cost), sum(input_tokens + output_tokens), \
    sum(CASE WHEN resolves IS NULL THEN 0 ELSE count END) FROM rows \
    WHERE (time + duration_ms * 1000) / 900000000 >= ?1 AND (cost > 0 OR resolves IS NOT NULL) \
    GROUP BY 1, 2, 3 ON CONFLICT DO UPDATE SET usd = max(usd, excluded.usd), tokens = max(tokens, excluded.tokens), \
    requests = max(requests, excluded.requests)";

pub(super) const INSERT_ROW: &str = "INSERT INTO rows (id, resolves, account, agent, time, pid, start_ticks, exe, \
    provider, endpoint, host, method, path, model, requested_model, status, stream, \
    input_tokens, input_uncached, cache_read, cache_write_5m, cache_write_1h, cache_write_other, input_audio, \
    input_image, output_tokens, reasoning_tokens, output_audio, output_image, \
    usage_quality, held, cost, price, clamped, outcome, ttfb_ms, duration_ms, request_id, reason, count, \
    category, notional, detail, corrects) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, \
    ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38, ?39, ?40, ?41, ?42, ?43, \
    ?44)";

// Sums end at the largest amount. SQLite would go on in floating point, which the tables refuse to store: a batch with
// one absurd amount could then never be written, nor anything after it.
pub(super) const GROW_HOLD: &str = "UPDATE holds SET amount = min(amount + ?2, 9223372036854775807) WHERE id = ?1";

pub(super) const UPDATE_TOTALS: &str = "UPDATE accounts SET spent = min(spent + ?2, 9223372036854775807), \
    held = max(0, min(held + ?3, 9223372036854775807)), exchanges = exchanges + ?4, refusals = refusals + ?5, \
    smallest_hold = CASE WHEN ?6 THEN ?7 WHEN ?7 IS NULL THEN smallest_hold \
    ELSE min(?7, coalesce(smallest_hold, ?7)) END WHERE id = ?1";

pub(super) const UPSERT_PROCESS: &str = "INSERT INTO processes (account, pid, start_ticks, exe, spent, exchanges) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET \
    spent = min(spent + excluded.spent, 9223372036854775807), exchanges = exchanges + excluded.exchanges";

pub(super) const UPSERT_RESULT: &str = "INSERT INTO results (provider, result, state, time, hold, row, account, \
    charged) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET state = excluded.state, \
    time = excluded.time, hold = excluded.hold, row = excluded.row, account = excluded.account, \
    charged = excluded.charged";

/// The last so many results that are not waited for stay, and of those what is not too old.
pub(super) const PRUNE_RESULTS: &str = "DELETE FROM results WHERE state <> 'pending' AND (time <= ?1 OR \
    time < (SELECT time FROM results ORDER BY time DESC LIMIT 1 OFFSET ?2))";

/// What a day's sums are made of, the oldest rows first. `?1` is how many rows are looked at.
pub(super) const OLDEST_ROWS: &str = "SELECT seq, time, account, agent, provider, \
    coalesce(model, requested_model, ''), category, outcome, count, input_tokens, input_uncached, cache_read, \
    cache_write_5m, cache_write_1h, cache_write_other, input_audio, input_image, output_tokens, reasoning_tokens, \
    output_audio, output_image, cost, notional, detail FROM rows ORDER BY seq LIMIT ?1";

/// The labels of a day's sum, if there is one already.
pub(super) const ROLLUP_LABELS: &str = "SELECT labels FROM rollups \
    WHERE day = ?1 AND account = ?2 AND provider = ?3 AND model = ?4 AND category = ?5";

pub(super) const UPSERT_ROLLUP: &str = "INSERT INTO rollups (day, account, provider, model, category, agent, \
    exchanges, refusals, input_tokens, input_uncached, cache_read, cache_write_5m, cache_write_1h, cache_write_other, \
    input_audio, input_image, output_tokens, reasoning_tokens, output_audio, output_image, cost, notional, labels) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23) \
    ON CONFLICT DO UPDATE SET \
    exchanges = min(exchanges + excluded.exchanges, 9223372036854775807), \
    refusals = min(refusals + excluded.refusals, 9223372036854775807), \
    input_tokens = min(input_tokens + excluded.input_tokens, 9223372036854775807), \
    input_uncached = min(input_uncached + excluded.input_uncached, 9223372036854775807), \
    cache_read = min(cache_read + excluded.cache_read, 9223372036854775807), \
    cache_write_5m = min(cache_write_5m + excluded.cache_write_5m, 9223372036854775807), \
    cache_write_1h = min(cache_write_1h + excluded.cache_write_1h, 9223372036854775807), \
    cache_write_other = min(cache_write_other + excluded.cache_write_other, 9223372036854775807), \
    input_audio = min(input_audio + excluded.input_audio, 9223372036854775807), \
    input_image = min(input_image + excluded.input_image, 9223372036854775807), \
    output_tokens = min(output_tokens + excluded.output_tokens, 9223372036854775807), \
    reasoning_tokens = min(reasoning_tokens + excluded.reasoning_tokens, 9223372036854775807), \
    output_audio = min(output_audio + excluded.output_audio, 9223372036854775807), \
    output_image = min(output_image + excluded.output_image, 9223372036854775807), \
    cost = min(cost + excluded.cost, 9223372036854775807), \
    notional = min(notional + excluded.notional, 9223372036854775807), labels = excluded.labels";

/// Columns of a row as the reader takes them, `accounts.path` first.
pub(super) const ROW_COLUMNS: &str = "a.path, r.seq, r.id, r.time, r.pid, r.start_ticks, r.exe, r.provider, \
    r.endpoint, r.host, r.method, r.path, r.model, r.requested_model, r.status, r.stream, \
    r.input_tokens, r.input_uncached, r.cache_read, r.cache_write_5m, r.cache_write_1h, r.cache_write_other, \
    r.input_audio, r.input_image, r.output_tokens, r.reasoning_tokens, r.output_audio, r.output_image, \
    r.usage_quality, r.held, r.cost, r.price, r.clamped, r.outcome, r.ttfb_ms, r.duration_ms, r.request_id, \
    r.reason, r.count, ";

/// The last columns of a row in a ledger of this version, and what stands for them in one of the first.
pub(super) const SECOND_COLUMNS: &str = "r.category, r.notional, r.detail, r.corrects";
pub(super) const BEFORE_SECOND: &str = "'llm', NULL, NULL, NULL";
