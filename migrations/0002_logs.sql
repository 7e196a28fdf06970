-- What happened: every webhook, what became of it, every attempt to deliver it, what waits and what is dead.
--
-- `stream-workers archive` is the only writer; it reads webhooks.raw, webhooks.processed and
-- webhooks.attempts, and may write any record twice or late. Nothing here is read by the data plane.
--
-- logs, processed_results and delivery_logs are range-partitioned by event id: a UUIDv7, whose first 48 bits
-- are the time of receipt in milliseconds, so that one partition holds the events of one UTC day and old
-- days are dropped whole. No foreign keys: rows of one event arrive in any order, and settings may be gone.

create schema ingestion;

-- Milliseconds since 1970 as a time. A double holds a second of our days to well below a microsecond. Every
-- inserted row calls this, so it must stay a body that PostgreSQL inlines: adding an interval would not be
-- immutable, and cost a row several microseconds.
create function ingestion.at_ms(ms bigint) returns timestamptz language sql immutable parallel safe as $$
    select to_timestamp(ms::double precision / 1000)
$$;

-- The smallest event id of a time.
create function ingestion.first_id(at timestamptz) returns uuid language sql stable parallel safe as $$
    select (lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- The time of receipt that an event id carries.
create function ingestion.received_at(event_id uuid) returns timestamptz language sql immutable parallel safe as $$
    select ingestion.at_ms(('x0000' || left(replace(event_id::text, '-', ''), 12))::bit(64)::bigint)
$$;

-- The raw webhooks.
create table ingestion.logs (
    event_id         uuid primary key,
    received_at      timestamptz not null,
    project_id       uuid not null,
    source_id        uuid not null,
    -- The API key that let it in; null for /in/{token}.
    key_id           uuid,
    -- As the sender said; the body is kept as it came, compressed or not.
    content_type     text,
    content_encoding text,
    query            text,
    -- [[name, value], ...] or [name, base64, "base64"], credentials blanked.
    headers          jsonb not null,
    body             bytea not null,
    body_bytes       integer not null,
    -- Where the record stands in Kafka.
    raw_topic        text not null,
    raw_partition    integer not null,
    raw_offset       bigint not null
) partition by range (event_id);
-- Event ids ascend with time, so this answers "the latest of a project". Every further index is paid for by
-- every webhook.
create index logs_project on ingestion.logs (project_id, event_id);

-- LZ4 takes a quarter off the cost of a row against the default. Servers built without it keep the default.
do $$
begin
    alter table ingestion.logs alter column body set compression lz4;
    alter table ingestion.logs alter column headers set compression lz4;
exception when feature_not_supported then
    raise notice 'this PostgreSQL was built without lz4: bodies are compressed with pglz';
end
$$;

-- What became of each item of a webhook; of several rounds (redrives from the dead letters) the last.
create table processed_results (
    event_id             uuid not null,
    item                 integer not null,
    -- The nil UUID where it is no replay: null cannot be part of a primary key.
    replay_id            uuid not null default '00000000-0000-0000-0000-000000000000',
    project_id           uuid not null,
    source_id            uuid not null,
    round                integer not null,
    outcome              text not null check (outcome in ('routed', 'unrouted', 'dead')),
    -- Why it is dead.
    reason               text,
    category             text,
    confidence           real,
    runner_up            text,
    runner_up_confidence real,
    decided_by           text,
    model_version        text,
    -- The common result: provider, event type, external id, summary, ...
    result               jsonb,
    -- How many deliveries were queued, and which: [{delivery_id, destination_id, route_id}].
    deliveries           integer not null,
    queued               jsonb not null default '[]',
    processed_at         timestamptz not null,
    raw_topic            text not null,
    raw_partition        integer not null,
    raw_offset           bigint not null,
    primary key (event_id, item, replay_id)
) partition by range (event_id);
create index processed_results_category on processed_results (project_id, category, event_id);

-- Of two records of the same round the further one counts, whichever came first.
create function ingestion.outcome_rank(outcome text) returns integer language sql immutable parallel safe as $$
    select case outcome when 'dead' then 0 when 'unrouted' then 1 else 2 end
$$;

-- Everything that happened to deliveries: attempts, and decisions that no request followed.
create table delivery_logs (
    event_id       uuid not null,
    delivery_id    uuid not null,
    round          integer not null,
    attempt        integer not null,
    state          text not null check (state in ('delivered', 'parked', 'dead', 'cancelled')),
    at             timestamptz not null,
    -- How final the state is; within a round the highest counts.
    rank           smallint not null,
    item           integer not null,
    -- The nil UUID where it is no replay.
    replay_id      uuid not null,
    project_id     uuid not null,
    source_id      uuid not null,
    destination_id uuid not null,
    route_id       uuid,
    -- Whether a request was made.
    attempted      boolean not null,
    duration_ms    bigint not null,
    status         integer,
    response_start text,
    error_class    text,
    error_code     text,
    error_message  text,
    -- Why it is parked, dead or cancelled, and until when it waits.
    reason         text,
    until_at       timestamptz,
    -- The time is part of the key: a delivery that waits twice between two attempts, or an attempt that a
    -- crash repeated, is two events; the same record read twice is one.
    primary key (event_id, delivery_id, round, attempt, state, at)
) partition by range (event_id);
create index delivery_logs_delivery on delivery_logs (delivery_id);
create index delivery_logs_destination on delivery_logs (project_id, destination_id, event_id);

-- What waits now. A row goes when its delivery ends; its history stands in delivery_logs.
create table retry_queue (
    delivery_id    uuid not null,
    event_id       uuid not null,
    project_id     uuid not null,
    source_id      uuid not null,
    destination_id uuid not null,
    item           integer not null,
    replay_id      uuid not null,
    round          integer not null,
    -- Attempts made in this round.
    attempts       integer not null,
    parked_at      timestamptz not null,
    until_at       timestamptz not null,
    reason         text not null,
    last_status    integer,
    last_error     text,
    primary key (delivery_id, event_id)
);
create index retry_queue_until on retry_queue (project_id, until_at);
create index retry_queue_destination on retry_queue (destination_id, until_at);
create index retry_queue_event on retry_queue (event_id);

-- What is dead now: webhooks that could not be worked, and deliveries that were given up. A row goes when a
-- redrive succeeds.
create table dead_letters (
    event_id       uuid not null,
    item           integer not null,
    replay_id      uuid not null,
    -- The nil UUID where the webhook itself is dead.
    delivery_id    uuid not null,
    kind           text not null check (kind in ('webhook', 'delivery')),
    project_id     uuid not null,
    source_id      uuid not null,
    destination_id uuid,
    round          integer not null,
    attempts       integer not null,
    died_at        timestamptz not null,
    reason         text not null,
    last_status    integer,
    last_error     text,
    -- Where the raw record stands; null for deliveries.
    raw_topic      text,
    raw_partition  integer,
    raw_offset     bigint,
    primary key (event_id, item, replay_id, delivery_id)
);
create index dead_letters_project on dead_letters (project_id, died_at);
create index dead_letters_destination on dead_letters (destination_id, died_at) where destination_id is not null;
create index dead_letters_delivery on dead_letters (delivery_id) where kind = 'delivery';
create index dead_letters_died_at on dead_letters (died_at);

-- Makes the daily partitions of every kept day and some days ahead, and drops those of days no longer kept.
-- Returns the first and last moment (milliseconds since 1970, the last one excluded) that a row may be of.
-- One at a time: a second caller waits for the first and then finds nothing to do.
create function ingestion.maintain_partitions(keep_days integer, ahead_days integer)
    returns table (oldest_ms bigint, end_ms bigint, created integer, dropped integer)
    language plpgsql as $$
declare
    today date := (now() at time zone 'utc')::date;
    first_day date := today - keep_days;
    parent regclass;
    child regclass;
    day date;
    name text;
begin
    if keep_days < 1 or ahead_days < 1 then
        raise exception 'keep_days and ahead_days must be at least 1';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('ingestion.maintain_partitions', 0));
    created := 0;
    dropped := 0;
    foreach parent in array array['ingestion.logs', 'processed_results', 'delivery_logs']::regclass[] loop
        for child, name in
            select c.oid, c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
            where i.inhparent = parent
        loop
            if to_date(right(name, 8), 'YYYYMMDD') < first_day then
                execute format('drop table %s', child);
                dropped := dropped + 1;
            end if;
        end loop;
        for day in select generate_series(first_day, today + ahead_days, interval '1 day')::date loop
            name := (select relname from pg_class where oid = parent) || '_' || to_char(day, 'YYYYMMDD');
            if to_regclass('ingestion.' || name) is null then
                execute format('create table ingestion.%I partition of %s for values from (%L) to (%L)', name, parent,
                    ingestion.first_id(day::timestamp at time zone 'utc'),
                    ingestion.first_id((day + 1)::timestamp at time zone 'utc'));
                created := created + 1;
            end if;
        end loop;
    end loop;
    oldest_ms := extract(epoch from first_day::timestamp at time zone 'utc')::bigint * 1000;
    end_ms := extract(epoch from (today + ahead_days + 1)::timestamp at time zone 'utc')::bigint * 1000;
    return next;
end
$$;
