//! The tools of `mcp serve` as they are listed: names, schemas, hints.

use serde_json::{Value, json};

use crate::mcp::toolbox::{Hints, Lane, Tool};

/// Bytes of output in one reply unless something else is asked.
pub const OUTPUT_BYTES_DEFAULT: usize = 32 << 10;
/// Most bytes of output, or of a file, in one reply.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// How long a command may take unless something else is asked, in milliseconds.
pub const TIMEOUT_MS_DEFAULT: u64 = 120_000;
/// The longest that may be asked, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// What of the tools is there at all.
#[derive(Debug, Clone, Copy)]
pub struct Offered {
    /// Images may be fetched from registries.
    pub pull: bool,
    /// There are folders to load images from.
    pub load: bool,
}

fn tool(name: &str, title: &str, description: &str, hints: Hints, lane: Lane, input: Value) -> Tool {
    Tool {
        name: name.to_owned(),
        title: title.to_owned(),
        description: description.to_owned(),
        input,
        output: None,
        hints,
        lane,
        meta: None,
    }
}

/// An object of these properties and no other.
fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn count(description: &str, least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most, "description": description })
}

fn sandbox() -> Value {
    text("Name of the sandbox, as sandbox_create or sandbox_list gives it")
}

fn path() -> Value {
    text("Absolute path inside the sandbox")
}

fn variables(description: &str) -> Value {
    json!({ "type": "object", "additionalProperties": { "type": "string" }, "description": description })
}

fn paths(description: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "description": description })
}

/// Every tool that is offered, in the order in which they are listed.
pub fn all(offered: Offered) -> Vec<Tool> {
    let mut tools =
        vec![create(), exec(), logs(), read(), write(), copy(), list(), limits(), stop(), remove()];
    tools.push(image_list());
    if offered.pull {
        tools.push(image_pull());
    }
    if offered.load {
        tools.push(image_load());
    }
    tools
}

fn limit_properties() -> Value {
    json!({
        "memory": text("Most memory, such as 512m or 2g"),
        "cpus": text("Most processor time, in processors, such as 1.5"),
        "processes": count("Most processes", 4, 1 << 22),
    })
}

fn create() -> Tool {
    let mut properties = json!({
        "name": text("A name for it: letters, digits, _ . -; one is made up without"),
        "image": text("An image of image_list, or @host for the host's own system folders"),
        "workspaces": { "type": "array", "description": "Folders of the host to work in, at the same path inside; without, all that this server was started with",
            "items": object(&["path"], json!({
                "path": text("Absolute path of the folder on the host"),
                "read_only": { "type": "boolean", "description": "It can be read and not written" },
            })) },
        "read_only": paths("More files or folders of the host to read"),
        "environment": variables("Variables of every command"),
        "network": { "type": "string", "enum": ["none", "host"], "description": "none: loopback only. host: the host's network" },
        "programs": paths("With @host: programs outside the system folders that commands start, such as node"),
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut properties, limit_properties()) {
        all.extend(more);
    }
    tool(
        "sandbox_create",
        "Create a sandbox",
        "Creates an isolated sandbox that stays until it is removed. Commands run in it with sandbox_exec.",
        Hints::ADD,
        Lane::Long,
        object(&[], properties),
    )
}

fn exec() -> Tool {
    let properties = json!({
        "sandbox": sandbox(),
        "script": text("A shell script, run by sh -c"),
        "command": paths("Program and arguments, run as they are; instead of script"),
        "workdir": text("Absolute path of the folder to start in; without, the first workspace"),
        "environment": variables("Variables of this command"),
        "stdin": text("What the command reads"),
        "timeout_ms": count("The command is killed after this long; 120000 without", 1, TIMEOUT_MS_MAX),
        "output_bytes": count("Most bytes of output in the reply; the rest by sandbox_logs", 0, OUTPUT_BYTES_MAX as u64),
        "background": { "type": "boolean", "description": "Reply at once; the output is read by sandbox_logs" },
    });
    tool(
        "sandbox_exec",
        "Run a command",
        "Runs a script or a command in a sandbox and gives its exit code and output. Give script or command. A command that fails is a result, not an error.",
        Hints::DESTROY,
        Lane::Long,
        object(&["sandbox"], properties),
    )
}

fn logs() -> Tool {
    let properties = json!({
        "sandbox": sandbox(),
        "exec": count("Number of the command, as sandbox_exec gave it; without, all commands are listed", 1, u64::from(u32::MAX)),
        "cursor": count("Where to read on: next_cursor of the last reply", 0, u64::MAX >> 12),
        "output_bytes": count("Most bytes of output in the reply", 1, OUTPUT_BYTES_MAX as u64),
        "wait_ms": count("Wait this long for more output, or for the end", 0, 600_000),
    });
    tool(
        "sandbox_logs",
        "Read output",
        "Reads on in the output of a command, running or ended, from a cursor. Lists the commands of a sandbox when no exec is given.",
        Hints::READ,
        Lane::Long,
        object(&["sandbox"], properties),
    )
}

fn read() -> Tool {
    let properties = json!({
        "sandbox": sandbox(),
        "path": path(),
        "offset": count("First byte", 0, u64::MAX >> 12),
        "limit": count("Most bytes", 1, OUTPUT_BYTES_MAX as u64),
    });
    tool(
        "sandbox_read",
        "Read a file",
        "Reads a file of a sandbox, as text when it is UTF-8, else as base64; a folder gives its entries.",
        Hints::READ,
        Lane::Long,
        object(&["sandbox", "path"], properties),
    )
}

fn mode() -> Value {
    json!({ "type": "string", "enum": ["replace", "new", "append"],
        "description": "replace: in one step, the default. new: fails when it is there. append: adds at the end" })
}

fn write() -> Tool {
    let properties = json!({
        "sandbox": sandbox(),
        "path": path(),
        "content": text("What the file will hold"),
        "encoding": { "type": "string", "enum": ["utf-8", "base64"], "description": "How content is written here; utf-8 without" },
        "mode": mode(),
    });
    tool(
        "sandbox_write",
        "Write a file",
        "Writes a file in a sandbox and makes the folders above it. The file is whole or unchanged.",
        Hints::DESTROY,
        Lane::Long,
        object(&["sandbox", "path", "content"], properties),
    )
}

fn copy() -> Tool {
    let properties = json!({
        "from_sandbox": text("Where the file is"),
        "from_path": path(),
        "to_sandbox": text("Where it goes; without, the same sandbox"),
        "to_path": path(),
        "mode": mode(),
    });
    tool(
        "sandbox_copy",
        "Copy a file",
        "Copies one file within a sandbox, or from one sandbox to another.",
        Hints::DESTROY,
        Lane::Long,
        object(&["from_sandbox", "from_path", "to_path"], properties),
    )
}

fn list() -> Tool {
    tool(
        "sandbox_list",
        "List sandboxes",
        "Lists the sandboxes of this server with state, image, folders, network and commands.",
        Hints::READ,
        Lane::Quick,
        object(&[], json!({})),
    )
}

fn limits() -> Tool {
    let mut properties = json!({ "sandbox": sandbox() });
    if let (Value::Object(all), Value::Object(more)) = (&mut properties, limit_properties()) {
        all.extend(more);
    }
    tool(
        "sandbox_limits",
        "Show or set limits",
        "Shows what limits a sandbox and by what; sets the ones that are given, where the host can.",
        Hints::DESTROY.idempotent(),
        Lane::Quick,
        object(&["sandbox"], properties),
    )
}

fn stop() -> Tool {
    let properties = json!({
        "sandbox": sandbox(),
        "exec": count("End only this command, with everything it started", 1, u64::from(u32::MAX)),
        "grace_ms": count("How long its processes have after they were asked to end; 5000 without", 0, 60_000),
    });
    tool(
        "sandbox_stop",
        "Stop a sandbox",
        "Ends every process of a sandbox, or one command. Output can still be read; files outside its workspaces are lost.",
        Hints::DESTROY.idempotent(),
        Lane::Long,
        object(&["sandbox"], properties),
    )
}

fn remove() -> Tool {
    tool(
        "sandbox_remove",
        "Remove a sandbox",
        "Ends a sandbox at once and forgets it with its output. Its workspaces on the host stay.",
        Hints::DESTROY,
        Lane::Long,
        object(&["sandbox"], json!({ "sandbox": sandbox() })),
    )
}

fn image_list() -> Tool {
    tool(
        "image_list",
        "List images",
        "Lists the images that sandbox_create can use.",
        Hints::READ,
        Lane::Long,
        object(&[], json!({})),
    )
}

fn image_pull() -> Tool {
    let properties = json!({ "image": text("Name with tag or digest, such as alpine:3.20") });
    tool(
        "image_pull",
        "Pull an image",
        "Fetches an image from its registry, so that sandbox_create can use it.",
        Hints::ADD.idempotent().open_world(),
        Lane::Long,
        object(&["image"], properties),
    )
}

fn image_load() -> Tool {
    let properties =
        json!({ "path": text("Absolute path on the host of an archive in a folder of this server") });
    tool(
        "image_load",
        "Load an image",
        "Loads images from an archive (docker save, OCI) that lies in a workspace folder of this server.",
        Hints::ADD.idempotent(),
        Lane::Long,
        object(&["path"], properties),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longest description of a tool, in characters: a model reads all of them with every question.
    const DESCRIPTION_CHARS_MAX: usize = 200;

    #[test]
    fn a_model_can_follow_every_tool() {
        let tools = all(Offered { pull: true, load: true });
        assert_eq!(tools.len(), 13);
        for tool in tools {
            let name = &tool.name;
            assert!(name.len() <= 64 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(
                tool.description.chars().count() <= DESCRIPTION_CHARS_MAX,
                "{name}: description too long"
            );
            assert!(tool.description.ends_with('.'), "{name}: a sentence");
            assert_eq!(tool.input["type"], "object", "{name}");
            assert_eq!(tool.input["additionalProperties"], false, "{name}");
            let properties = tool.input["properties"].as_object().unwrap();
            for (key, schema) in properties {
                let described = schema["description"].as_str().unwrap_or_default();
                let fits = !described.is_empty() && described.chars().count() <= DESCRIPTION_CHARS_MAX;
                assert!(fits, "{name}.{key}: {described}");
            }
            for required in tool.input["required"].as_array().unwrap() {
                assert!(properties.contains_key(required.as_str().unwrap()), "{name}: {required}");
            }
        }
    }

    #[test]
    fn hints_are_honest() {
        let tools = all(Offered { pull: true, load: true });
        let named = |hint: fn(&Hints) -> bool| {
            let mut names: Vec<&str> =
                tools.iter().filter(|t| hint(&t.hints)).map(|t| t.name.as_str()).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(named(|h| h.read_only), ["image_list", "sandbox_list", "sandbox_logs", "sandbox_read"]);
        assert!(tools.iter().all(|t| !(t.hints.read_only && t.hints.destructive)));
        let destructive = [
            "sandbox_copy",
            "sandbox_exec",
            "sandbox_limits",
            "sandbox_remove",
            "sandbox_stop",
            "sandbox_write",
        ];
        assert_eq!(named(|h| h.destructive), destructive);
        assert_eq!(named(|h| h.open_world), ["image_pull"]);
    }

    #[test]
    fn what_is_not_allowed_is_not_offered() {
        let names: Vec<String> =
            all(Offered { pull: false, load: false }).into_iter().map(|t| t.name).collect();
        assert!(!names.iter().any(|n| n == "image_pull" || n == "image_load"));
    }
}
