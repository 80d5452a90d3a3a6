//! `[models.NAME]`, `[secrets.NAME]`, `[registries.NAME]`, `[components.NAME]`, `[roles.NAME]`, `[[agents]]`.

use toml::Spanned;

use super::super::file::{File, FromEnvironment, Model, ModelName};
use super::{Key, Read, derived, key, required};

pub const MODELS: &[Key] = &[
    required(
        "base_url",
        "base URL, without the path of a call: the host appends `/chat/completions` or `/v1/messages`. The variable \
         replaces all of `[models.default]`: the file's key, headers and certificates do not apply to another endpoint",
    )
    .text("BULKHEAD_MODEL_BASE_URL", |file, text| {
        file.models.insert(ModelName::of_variables(), Model::at(Spanned::new(0..0, text)));
        Ok(())
    }),
    key(
        "dialect",
        r#""openai""#,
        "what the server speaks: `openai` (chat completions) or `anthropic` (messages)",
    ),
    derived("api_key", "none", "the API key, [a secret](#secrets)").variable(
        "BULKHEAD_MODEL_API_KEY",
        Read::Secret {
            credential: "bulkhead.model-api-key",
            set: |file, FromEnvironment { secret, file: of_file }| {
                let model = of_variables(file)?;
                let here = 0..0;
                model.api_key_env = None;
                (model.api_key, model.api_key_file) = match of_file {
                    Some(path) => (None, Some(Spanned::new(here, path))),
                    None => (Some(Spanned::new(here, secret)), None),
                };
                Ok(())
            },
        },
    ),
    derived(
        "api_key_file",
        "none",
        "file that holds the API key. It is read again when it changes, at most once a second, and after a 401",
    ),
    derived(
        "api_key_env",
        "none",
        "name of the environment variable that holds the API key. At most one of the three may be set",
    ),
    key("model", r#""default""#, "the model, for requests and agents whose settings name none").text(
        "BULKHEAD_MODEL_NAME",
        |file, text| {
            of_variables(file)?.model = Some(Spanned::new(0..0, text));
            Ok(())
        },
    ),
    key("models", "[]", "models that agents may request: names, or prefixes with `*` at the end. Empty: all"),
    key(
        "headers",
        "{}",
        "additional headers of each request; the values are secrets. Not those that the host sets itself, such as \
         `authorization`, `host` and `content-type`",
    ),
    derived(
        "ca_file",
        "none",
        "PEM file with the CA certificates to trust instead of the public CAs, for this endpoint only",
    ),
    key("timeout_ms", "300000", "deadline of a call, including all retries"),
    key("first_byte_ms", "120000", "time from a request to the first byte of its response"),
    derived(
        "attempt_ms",
        "`180000`, at least `first_byte_ms`",
        "deadline of one attempt until its response begins with text, reasoning or a tool call. Comments and empty events, \
         by which a server shows that it is there, do not extend it",
    ),
    key("idle_ms", "60000", "silence within a response"),
    key(
        "retries",
        "2",
        "retries of a call that may succeed later, 0 to 10. A response is not retried once part of it has reached the agent",
    ),
    key("max_wait_ms", "60000", "longest `Retry-After` that the host waits for; a longer one fails the call"),
    key("max_answer_kb", "4096", "size of one response in KiB, as transferred"),
    derived(
        "price_input",
        "0",
        "price of a million tokens read, in a unit of your choice, the same for all endpoints. Without any of the three a call \
         costs nothing. See [usage.md](usage.md)",
    ),
    derived("price_cached", "`price_input`", "the same for tokens that the server read from its cache"),
    derived("price_output", "0", "the same for tokens written, with reasoning"),
    key(
        "prices",
        "{}",
        "prices of single models, which replace the three above: `prices.\"MODEL\" = { input = …, cached = …, output = … }`. `MODEL` \
         is a name, or a prefix with `*` at the end; a name counts before the longest prefix that fits",
    ),
];

/// The endpoint that a key or a model of the environment is for.
fn of_variables(file: &mut File) -> Result<&mut Model, String> {
    let missing = "there is no [models.default]; add it, or set BULKHEAD_MODEL_BASE_URL";
    file.models.get_mut(&ModelName::of_variables()).ok_or_else(|| missing.to_owned())
}

pub const SECRETS: &[Key] = &[
    required("hosts", "destinations that may get it, in the form of `http_allow`"),
    derived(
        "value",
        "none",
        "the value, at least 8 bytes, [a secret](#secrets). Exactly one of the three is required",
    ),
    derived(
        "value_file",
        "none",
        "file that holds the value; a changed file is read within a second of its next use",
    ),
    derived("value_env", "none", "variable of the host's environment that holds the value"),
    key("headers", r#"["authorization"]"#, "header fields in which a placeholder is replaced"),
    key(
        "template",
        r#""{value}""#,
        "what replaces the placeholder; `{value}` in it is the value, as in `Bearer {value}`",
    ),
    key("allow_http", "false", "whether it may be sent over plain HTTP"),
];

pub const RIGS: &[Key] = &[
    required("url", "where the repository is: `https://` or `http://`, without user and password"),
    derived("default_branch", "`main`", "the branch that work starts from"),
    key(
        "partial",
        "false",
        "fetch the contents of files when a workspace needs them (a partial clone), and history without them. For large \
         repositories; a server that does not offer it sends everything. It holds for mirrors that are made from then on",
    ),
    derived("username", "`git`", "the user that its server wants beside the token"),
    derived(
        "token",
        "none",
        "what its server wants as a password, [a secret](#secrets). At most one of the two",
    ),
    derived(
        "token_file",
        "none",
        "file that holds the token. It is read again when the server refused the one before",
    ),
];

pub const REGISTRIES: &[Key] = &[
    derived(
        "username",
        "none",
        "the user that the registry, or its server of tokens, wants to see",
    ),
    derived(
        "password",
        "none",
        "its password or token, [a secret](#secrets). At most one of the two",
    ),
    derived(
        "password_file",
        "none",
        "file that holds the password. It is read when the registry asks for it",
    ),
    derived(
        "credentials_file",
        "none",
        "in place of a user and a password: a file in the format of Docker's `config.json`, as `docker login`, `podman \
         login` and `oras login` write it. Helpers (`credHelpers`, `credsStore`) are not run",
    ),
    derived(
        "plain_http",
        "`true` for this machine, else `false`",
        "HTTP without TLS is spoken with the registry, with its server of tokens, and with where it redirects",
    ),
    derived(
        "ca_file",
        "none",
        "PEM file with the CA certificates to trust instead of the public CAs",
    ),
    derived(
        "public_key_file",
        "that of `*`, else none",
        "PEM file with a public key. Components of the registry have to be [signed](deploying.md#signed-components) by it",
    ),
];

pub const COMPONENTS: &[Key] = &[
    derived("path", "none", "the component file. The next start uses a changed file"),
    derived(
        "reference",
        "none",
        "in place of a path: `oci://registry/repository@sha256:digest`, a component of a \
         [registry](deploying.md#components-from-a-registry). A tag before the `@` is for readers",
    ),
    derived(
        "public_key_file",
        "that of its registry",
        "PEM file with a public key. The component has to be signed by it",
    ),
];

pub const ROLES: &[Key] = &[
    derived("component", "none", "name of its component. A role has this or `source`"),
    derived(
        "source",
        "none",
        "source code of its agents, for a runner: a file, or a directory in which the first of `agent`, `main` and `index` \
         is begun with. At most 2,000 files, 16 MiB and 16 levels; what is hidden, `node_modules` and `__pycache__` are \
         left out. The next start uses changed code",
    ),
    derived(
        "runner",
        "by the file's ending",
        "what runs `source`: `js` (`.js`, `.mjs`, `.ts`, `.mts`) or `python` (`.py`). It is the component `runner-js` or \
         `runner-python` of the configuration, else the file `js.wasm` or `python.wasm` in `runners/` beside the program or \
         in `../lib/bulkhead/runners/`",
    ),
    key(
        "args",
        "[]",
        "arguments of its program, after the component's name: at most 256, 64 KiB in total, without NUL. They are part of \
         the spec: a start with other arguments is a start of another agent",
    ),
    key(
        "restart",
        r#""temporary""#,
        "which exits are followed by a restart. `permanent`: all. `transient`: abnormal ones. `temporary`: none. A requested \
         stop never is. See [Restarts and quarantine](#restarts-and-quarantine)",
    ),
    key(
        "restart_backoff_ms",
        "500",
        "initial upper bound of the random backoff, at most `restart_backoff_max_ms`. It doubles with each consecutive exit",
    ),
    key("restart_backoff_max_ms", "60000", "maximum of that bound"),
    key("restart_healthy_ms", "60000", "an incarnation of this length resets the bound"),
    key(
        "restart_max",
        "5",
        "restarts within the window, 0 to 100. One more exit quarantines the agent",
    ),
    key("restart_window_ms", "300000", "the window"),
    key(
        "restart_same_fault",
        "3",
        "consecutive starts with the same fault of the agent that quarantine it, 1 to 100",
    ),
    key(
        "max_attempts",
        "2",
        "deliveries of one message, 1 to 10, when each turn ends in a fault of the agent or in the death of the host. \
         Afterwards the message is set aside (`agent.message_set_aside`). See [Redelivery](#redelivery)",
    ),
    derived(
        "idle_ms",
        "`mayor` 0, `refinery` 600000, others 120000",
        "idle time after which the agent ends as `completed`; 0: never. Time in which the process is stopped (SIGSTOP, a \
         paused container) does not count",
    ),
    derived(
        "memory_limit_mb",
        "`limits.agent_memory_mb`",
        "limit of linear memories and tables of all core instances, and of memory that the host holds for the agent: \
         messages, events, log lines in transit, requests, open files and streams. A request may set another \
         (`memoryLimitMb`). A component with a larger initial memory is refused with the figures",
    ),
    derived(
        "memory_soft_percent",
        "`limits.agent_memory_soft_percent`",
        "soft mark, 1 to 100. Use that rises to this part of the limit logs `agent.memory_soft_limit`. It is logged again \
         only after use fell 5 % of the limit below the mark",
    ),
    key(
        "on_memory_limit",
        r#""end""#,
        "`end`: the agent ends as `memory_limit`, with the backtrace of the growth. `deny`: its growth or its HTTP request \
         fails. A Rust guest then usually aborts, which is `memory_limit` as well. Under both, incoming messages are \
         refused, events and log lines are dropped and counted, and too many open resources end the agent",
    ),
    key("cpu_ms", "10000", "CPU time of one turn → `cpu_deadline`"),
    derived(
        "message_cpu_ms",
        "ten times `cpu_ms`",
        "CPU time of all turns of one message (`continue`) → `cpu_deadline`. Each turn after the first counts 50 µs extra \
         for the host's overhead",
    ),
    derived(
        "cpu_max_percent",
        "`limits.agent_cpu_max_percent`",
        "percent of one core that the agent may use over time, 1 to 100. Above it the guest [waits](#cpu-time-over-time); \
         nothing ends. 100: no bound",
    ),
    key(
        "wall_ms",
        "300000",
        "wall time of one turn → `wall_deadline`. Time in which `cpu_max_percent` makes the guest wait does not count",
    ),
    key("host_call_ms", "120000", "wall time of one host call → `host_call_timeout`"),
    key(
        "start_ms",
        "30000",
        "deadline of a start, without the compilation of its component. A request may set another (`deadlineMs`, at most \
         600000); later starts of the agent have the longer of the two. A caller waits no longer than its own: during \
         compilation it gets 504 `still-compiling` and the start continues; an equal start joins it. Nothing of such a \
         start is durable until compilation has finished",
    ),
    key(
        "shutdown_ms",
        "5000",
        "grace period of a stop, for the rest of the turn and for `shutdown` → `killed`",
    ),
    key("mailbox_messages", "256", "capacity of the mailbox in messages; above it 429"),
    key(
        "mailbox_kb",
        "4096",
        "capacity of the mailbox in KiB; above it 429, and 413 for a message larger than that",
    ),
    key(
        "log_lines_per_second",
        "50",
        "rate of log lines, with a burst of ten times as many; the excess is dropped and counted. A line counts once per \
         started KiB of its text and fields. A line larger than a burst passes after enough silence",
    ),
    key(
        "durable",
        r#""node""#,
        "when a start or a stop is answered: `node` once the database has it, so that it survives the death of the process; \
         `fleet` once it is [shipped](#ship), so that it survives the loss of the machine. When that takes longer than \
         `ship.wait_ms` the answer is 503 `not-shipped`: the agent has started or stopped, and is shipped later. With `fleet` and \
         `snapshot = \"turn\"` who waits for a turn is answered when its snapshot is shipped; after `ship.wait_ms` the answer \
         says `\"durable\": \"node\"`",
    ),
    key(
        "snapshot",
        r#""off""#,
        "when the host asks the agent for its state. `turn`: after turns and before a shutdown. `stop`: before a shutdown \
         only. The next incarnation gets it back, also in another run. A snapshot with which the agent fails twice before \
         its first turn ends is set aside for the one before it, if its code has worked with it before",
    ),
    key(
        "snapshot_ms",
        "1000",
        "delay from a turn to its snapshot; the snapshot also covers turns within the delay",
    ),
    key(
        "snapshot_kb",
        "1024",
        "largest snapshot, at most 16384. A larger one is refused and the last good one stays",
    ),
    key(
        "http_allow",
        "[]",
        "destinations: `host`, `host:port`, `*.domain`, `[v6]:port`, or `{ host = \"host:port\", private = true }`. Without \
         a port: 80 and 443. See [Outgoing requests](#outgoing-requests)",
    ),
    key(
        "models",
        "[]",
        "names of the `[models.NAME]` that the agent may use; the first one is its default. Empty: none. \
         See [models.md](models.md)",
    ),
    key(
        "secrets",
        "[]",
        "names of the `[secrets.NAME]` that requests of the agent may carry. See [Secrets of HTTP services](#secrets-of-http-services)",
    ),
    key(
        "workspace",
        "true",
        "the agent has its own directory as `/workspace`, which is kept when it ends (see `[workspaces]`)",
    ),
    key(
        "workspace_mb",
        "1024",
        "capacity of the workspace: file sizes in blocks of 4 KiB, holes included, and 4 KiB per directory. Above it \
         writes fail with `insufficient-space`. A deleted file counts while it is open. Existing content is counted once \
         per incarnation, by the first call that changes something",
    ),
    key(
        "workspace_entries",
        "65536",
        "maximum number of files, directories and links, hard links included. A larger tree is not counted to its end and \
         accepts nothing until enough of it is deleted",
    ),
    key(
        "git",
        "false",
        "the workspace is a [repository](#repositories), where the start request has a `rigId`",
    ),
    derived("git_author", "the agent", "who its commits are by: `Name <name@host>`"),
    key(
        "git_save",
        "false",
        "whether what is not on the remote goes there, to the agent's branch, whenever an incarnation ends: at a stop, a \
         drain, an eviction with time for it, before a restart. Changes that are not committed become a commit (`WIP: ...`)",
    ),
    key(
        "tools",
        "[]",
        "[native programs](#tools) that the agent may run: names, which are found in `tools.path`, absolute paths, or \
         directories, which stand for all programs in them. Empty: none. Needs a workspace",
    ),
    key("tools_parallel", "4", "tools that the agent may run at a time"),
    key(
        "tool_memory_mb",
        "512",
        "memory of one tool with all that it starts. Above it the tool ends as `memory-limit`; the agent goes on",
    ),
    key("tool_wall_ms", "120000", "time that one tool may take"),
    key("tool_cpu_ms", "120000", "CPU time of one tool with all that it starts"),
    key("tool_pids", "256", "processes and threads of one tool at a time, at most 32768"),
    key("tool_output_mb", "4", "what one tool may write to stdout and stderr together, at most 64"),
    key(
        "tool_network",
        r#""none""#,
        "what tools reach: `none`, also not this machine; or `open`: all that the host reaches, with its addresses",
    ),
    key(
        "config",
        "{}",
        "strings for `host.config`. `envVars` of a start request override them, and `POST /sync-config` or \
         `X-Town-Config` override both",
    ),
    key(
        "config_files",
        "{}",
        "the same with paths; each value is the content of its file. See [Secrets](#secrets)",
    ),
    key(
        "secret_env",
        "[]",
        "names in `envVars` whose values are credentials, in addition to names that end in `TOKEN`, `KEY`, `SECRET`, \
         `PASSWORD` or the word `PAT`, in any case. See [Credentials of agents](#credentials-of-agents)",
    ),
    key(
        "core_dump",
        "false",
        "a fault in the guest's code writes a [core dump](#core-dumps) with all of the agent's memory, secrets included",
    ),
    key(
        "live_output",
        "true",
        "what language models answer, and the tools that they ask for, goes to those who follow the agent as it comes \
         (`deltas` of the [event streams](api.md#streams))",
    ),
    key(
        "eviction_weight_percent",
        "100",
        "weight of its agents when the host chooses whom to evict, 0 (after all others) to 1000",
    ),
    key(
        "fault_injection",
        "false",
        "for tests only: `host.config(\"fault-injection/panic\")` and `.../error` make the host fail, `.../abort` aborts it",
    ),
    derived(
        "budget",
        "none",
        "a table `[roles.NAME.budget]` with the keys of [`[budget]`](#budget). Those of a minute and a day hold for all agents of \
         the role together, those of a message and a turn for each",
    ),
    derived(
        "same_tool_calls",
        "none",
        "the same tool call of a model with the same arguments, so often in a row within one message, ends the agent as \
         `stuck`; at least 2",
    ),
    derived(
        "idle_continues",
        "none",
        "so many turns in a row that end in `continue` and produce nothing new end the agent as `stuck`: no event, no message \
         to another agent, no reply, and no tool call that differs from the one before",
    ),
];

pub const AGENTS: &[Key] = &[
    required("id", "1 to 128 characters of `A-Z a-z 0-9 . _ : -`, a letter or digit first; unique"),
    required("role", "name of its role"),
    derived("name", "its id", "display name"),
    key("prompt", r#""""#, "the first message"),
    derived("system_prompt", "none", "standing instructions"),
    derived("model", "none", "language model"),
];
