-- What users teach the classifier: rules, labels of their own, corrections, and which model is in force; and what
-- each result says of it.
--
-- Adds only: a program of before goes on with these tables beside it.

create table config.rules (
    id         uuid primary key,
    project_id uuid not null references config.projects,
    name       text not null check (char_length(name) between 1 and 100),
    -- Rules are read in ascending order of position, then of id.
    position   integer not null check (position >= 0),
    -- [{"header" or "json": ..., "equals" or another test: ...}], all of which must hold.
    conditions jsonb not null check (
        jsonb_typeof(conditions) = 'array' and jsonb_array_length(conditions) between 1 and 20
        and octet_length(conditions::text) <= 131072),
    category   text not null check (char_length(category) between 1 and 64),
    disabled   boolean not null default false,
    version    bigint not null default 1 check (version >= 1),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (project_id, name),
    unique (project_id, id)
);
create trigger rules_version before update on config.rules
    for each row execute function config.next_version();

-- The sources a rule is limited to; none means any.
create table config.rule_sources (
    project_id uuid not null,
    rule_id    uuid not null,
    source_id  uuid not null,
    primary key (rule_id, source_id),
    foreign key (project_id, rule_id) references config.rules (project_id, id) on delete cascade,
    foreign key (project_id, source_id) references config.sources (project_id, id)
);
create index rule_sources_source on config.rule_sources (source_id);

create table config.labels (
    id         uuid primary key,
    project_id uuid not null references config.projects,
    -- The category.
    name       text not null check (char_length(name) between 1 and 64),
    -- [{"scheme", "tokens", "event_id"}] in the order in which they were added; event_id is null where an example
    -- came from a file. All of them travel in one record, which must fit into the config topic.
    examples   jsonb not null check (
        jsonb_typeof(examples) = 'array' and jsonb_array_length(examples) between 1 and 50
        and octet_length(examples::text) <= 786432),
    -- Null: chosen from the examples.
    threshold  real check (threshold between 0 and 1),
    disabled   boolean not null default false,
    version    bigint not null default 1 check (version >= 1),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (project_id, name)
);
create trigger labels_version before update on config.labels
    for each row execute function config.next_version();

-- No foreign key to the source: what a correction teaches outlives the settings of its sender.
create table config.corrections (
    id         uuid primary key,
    project_id uuid not null references config.projects,
    source_id  uuid not null,
    event_id   uuid not null,
    category   text not null check (char_length(category) between 1 and 64),
    -- What the event had been classified as; null where that is not known.
    instead_of text check (char_length(instead_of) <= 1000),
    -- {"scheme", "tokens"}
    example    jsonb not null check (jsonb_typeof(example) = 'object' and octet_length(example::text) <= 131072),
    version    bigint not null default 1 check (version >= 1),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- The last word on an event counts.
    unique (project_id, event_id)
);
create trigger corrections_version before update on config.corrections
    for each row execute function config.next_version();

-- Which models are in force, by the names of their directories; `builtin` is the model that came with the program.
-- One row for the whole installation, made by the first command that chooses a model.
create table config.models (
    id         text primary key check (id = 'active'),
    current    text not null default 'builtin' check (current ~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$'),
    shadow     text check (shadow ~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$'),
    -- The models that were current before, the newest last; `model rollback` takes the last.
    history    text[] not null default '{}' check (cardinality(history) <= 20),
    version    bigint not null default 1 check (version >= 1),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check (shadow <> current)
);
create trigger models_version before update on config.models
    for each row execute function config.next_version();

alter table config.outbox
    drop constraint outbox_kind_check,
    add constraint outbox_kind_check check (kind in
        ('key', 'source', 'destination', 'route', 'rule', 'label', 'correction', 'model', 'marker', 'stray'));

-- The rule, label or correction that decided, and what a shadow model said where it disagreed.
alter table processed_results
    add column decided_id uuid,
    add column shadow_version text,
    add column shadow_category text,
    add column shadow_confidence real;
-- Only of disagreements, so that all other results pay nothing for it.
create index processed_results_shadow on processed_results (project_id, event_id) where shadow_category is not null;
