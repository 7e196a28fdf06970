-- People and their settings: who may sign in, which keys let webhooks in, where they belong, where they go.
--
-- The data plane never reads these tables. Every change of a row that it must know of is written to
-- config.outbox in the same transaction; the publisher carries it from there to the topic control.config.
-- `version` rises with every change of a row, so that an older record can be told from a newer one.

create schema auth;
create schema config;

create table auth.users (
    id            uuid primary key,
    email         text not null check (char_length(email) between 3 and 254 and position('@' in email) > 1),
    -- argon2id in PHC string format; null where the user cannot sign in with a password.
    password_hash text check (password_hash like '$argon2id$%'),
    created_at    timestamptz not null default now(),
    disabled_at   timestamptz
);
create unique index users_email_key on auth.users (lower(email));

create table config.projects (
    id         uuid primary key,
    name       text not null unique check (char_length(name) between 1 and 100),
    created_at timestamptz not null default now()
);

-- Gives every changed row the next version. A version that was set on purpose and is higher stays:
-- `config republish` uses that after the database was restored from an older backup.
create function config.next_version() returns trigger language plpgsql as $$
begin
    new.version := greatest(new.version, old.version + 1);
    new.updated_at := now();
    return new;
end
$$;

create table config.sources (
    id           uuid primary key,
    project_id   uuid not null references config.projects,
    name         text not null check (char_length(name) between 1 and 100),
    -- SHA-256 of the token in /in/{token}. The token itself is shown once and never stored.
    token_hash   bytea unique check (octet_length(token_hash) = 32),
    token_prefix text check (char_length(token_prefix) <= 16),
    disabled     boolean not null default false,
    version      bigint not null default 1 check (version >= 1),
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    unique (project_id, name),
    -- Target of foreign keys that must not cross projects.
    unique (project_id, id)
);
create trigger sources_version before update on config.sources
    for each row execute function config.next_version();

create table auth.api_keys (
    id           uuid primary key,
    project_id   uuid not null,
    source_id    uuid not null,
    name         text not null check (char_length(name) between 1 and 100),
    -- The first characters of the key, by which people recognise it.
    prefix       text not null check (char_length(prefix) between 4 and 16),
    -- SHA-256 of the whole key.
    hash         bytea not null unique check (octet_length(hash) = 32),
    scopes       text[] not null check (cardinality(scopes) between 1 and 32),
    rate_per_s   double precision check (rate_per_s > 0 and rate_per_s <= 1000000),
    burst        integer check (burst between 1 and 1000000),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    created_by   uuid references auth.users,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    last_used_at timestamptz,
    version      bigint not null default 1 check (version >= 1),
    foreign key (project_id, source_id) references config.sources (project_id, id),
    check (burst is null or rate_per_s is not null)
);
-- A name may be used again once the key that had it is revoked.
create unique index api_keys_name_key on auth.api_keys (project_id, name) where revoked_at is null;
create index api_keys_source on auth.api_keys (source_id);
-- Not on last_used_at: that a key was used is no news to the edge.
create trigger api_keys_version
    before update of source_id, name, hash, scopes, rate_per_s, burst, expires_at, revoked_at, version on auth.api_keys
    for each row execute function config.next_version();

create table config.destinations (
    id              uuid primary key,
    project_id      uuid not null references config.projects,
    name            text not null check (char_length(name) between 1 and 100),
    url             text not null check (char_length(url) <= 2048 and url ~ '^https?://'),
    -- Signing secrets sealed with the master key, the newest first; two during a rotation.
    secrets         text[] not null check (cardinality(secrets) between 1 and 2),
    body            text not null default 'result' check (body in ('result', 'raw')),
    timeout_ms      integer not null check (timeout_ms between 100 and 60000),
    concurrency     integer not null check (concurrency between 1 and 1024),
    max_attempts    integer not null check (max_attempts between 1 and 100),
    max_age_ms      bigint not null check (max_age_ms between 1000 and 2592000000),
    base_ms         bigint not null check (base_ms between 1 and 86400000),
    factor          double precision not null check (factor between 1 and 100),
    cap_ms          bigint not null check (cap_ms between 1 and 86400000),
    jitter          double precision not null check (jitter between 0 and 1),
    disabled        boolean not null default false,
    -- Why it is disabled: what a person said, or what the data plane found (410 Gone).
    disabled_reason text check (char_length(disabled_reason) <= 500),
    version         bigint not null default 1 check (version >= 1),
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    unique (project_id, name),
    unique (project_id, id),
    check (base_ms <= cap_ms),
    check (disabled or disabled_reason is null)
);
create trigger destinations_version before update on config.destinations
    for each row execute function config.next_version();

create table config.routes (
    id             uuid primary key,
    project_id     uuid not null references config.projects,
    name           text not null check (char_length(name) between 1 and 100),
    -- Routes are read in ascending order of position, then of id.
    position       integer not null check (position >= 0),
    -- Empty means any.
    categories     text[] not null default '{}' check (cardinality(categories) <= 100),
    min_confidence real not null default 0 check (min_confidence between 0 and 1),
    disabled       boolean not null default false,
    version        bigint not null default 1 check (version >= 1),
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    unique (project_id, name),
    unique (project_id, id)
);
create trigger routes_version before update on config.routes
    for each row execute function config.next_version();

-- The sources a route is limited to; none means any.
create table config.route_sources (
    project_id uuid not null,
    route_id   uuid not null,
    source_id  uuid not null,
    primary key (route_id, source_id),
    foreign key (project_id, route_id) references config.routes (project_id, id) on delete cascade,
    foreign key (project_id, source_id) references config.sources (project_id, id)
);
create index route_sources_source on config.route_sources (source_id);

create table config.route_destinations (
    project_id     uuid not null,
    route_id       uuid not null,
    destination_id uuid not null,
    ordinal        integer not null check (ordinal >= 0),
    primary key (route_id, destination_id),
    unique (route_id, ordinal),
    foreign key (project_id, route_id) references config.routes (project_id, id) on delete cascade,
    foreign key (project_id, destination_id) references config.destinations (project_id, id)
);
create index route_destinations_destination on config.route_destinations (destination_id);

-- What is still to be written to control.config, in order, and for a while what was.
create table config.outbox (
    seq          bigserial primary key,
    -- `stray` deletes a record that no table owns; its id is the record's key in hexadecimal.
    kind         text not null check (kind in ('key', 'source', 'destination', 'route', 'marker', 'stray')),
    id           text not null,
    version      bigint not null,
    -- The value of the config record; null deletes it.
    record       jsonb,
    created_at   timestamptz not null default now(),
    published_at timestamptz
);
create index outbox_unpublished on config.outbox (seq) where published_at is null;
create index outbox_by_key on config.outbox (kind, id, seq);
create index outbox_published_at on config.outbox (published_at) where published_at is not null;

-- Wakes the publisher, so that a change is out at once.
create function config.outbox_changed() returns trigger language plpgsql as $$
begin
    notify config_outbox;
    return null;
end
$$;
create trigger outbox_changed after insert on config.outbox
    for each statement execute function config.outbox_changed();

-- Who changed what. Secrets are never in it, sealed or not.
create table audit_log (
    id         bigserial primary key,
    at         timestamptz not null default now(),
    project_id uuid references config.projects,
    actor      text not null check (char_length(actor) between 1 and 300),
    action     text not null check (action ~ '^[a-z_]+\.[a-z_]+$'),
    target_id  text not null,
    before     jsonb,
    after      jsonb
);
create index audit_log_target on audit_log (target_id, id);
create index audit_log_project on audit_log (project_id, id);

insert into config.projects (id, name) values ('00000000-0000-7000-8000-000000000001', 'default');

-- The source of keys that name no other. Its id is fixed, so that every installation agrees on it.
insert into config.sources (id, project_id, name)
values ('00000000-0000-7000-8000-000000000002', '00000000-0000-7000-8000-000000000001', 'default');

-- The first publication: the marker that tells an empty installation from an emptied topic, and the source.
insert into config.outbox (kind, id, version, record) values
    ('marker', 'installation', 1, '{}'),
    ('source', '00000000-0000-7000-8000-000000000002', 1,
     '{"project_id": "00000000-0000-7000-8000-000000000001", "name": "default", "token_hash": null, "disabled": false}');
