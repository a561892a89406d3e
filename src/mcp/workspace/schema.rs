//! Which tools there are in which profile, and how they are listed.
//!
//! The tools of the reference server are listed word for word as version 2026.8.31 lists them (MIT licence), for
//! clients compare; beyond `compat` they have more parameters, and the text is sent once.

use serde_json::{Map, Value, json};

use crate::mcp::toolbox::{Hints, Lane, Tool};

/// The reference's own list.
const REFERENCE: &str = include_str!("compat.json");

/// Which tools are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The 14 of the reference server, as it has them.
    Compat,
    /// Those, and MassGen's six.
    Massgen,
    /// Those of the reference with more parameters, and the few that matter most.
    Core,
    /// All.
    Full,
}

impl Profile {
    /// Whether replies are the reference's own.
    pub fn is_plain(self) -> bool {
        matches!(self, Self::Compat | Self::Massgen)
    }
}

/// The list of the reference server.
pub fn reference() -> Vec<Value> {
    serde_json::from_str(REFERENCE).unwrap_or_default()
}

/// What is listed in a profile.
pub fn definitions(profile: Profile) -> Vec<Value> {
    let mut all = reference();
    if !profile.is_plain() {
        // The same tool under an older name costs a model's attention.
        all.retain(|tool| tool["name"] != "read_file");
        all.iter_mut().for_each(widen);
    }
    let own = match profile {
        Profile::Compat => Vec::new(),
        Profile::Massgen => massgen(),
        Profile::Core => editing()
            .into_iter()
            .chain(taking_back())
            .filter(|tool| ["edit_files", "apply_patch", "undo"].contains(&tool.name.as_str()))
            .collect(),
        Profile::Full => editing().into_iter().chain(taking_back()).chain(massgen()).collect(),
    };
    all.extend(own.iter().map(Tool::definition));
    all
}

/// The tools of a profile with the threads they run on.
pub fn tools(profile: Profile) -> Vec<Tool> {
    let listed = definitions(profile).into_iter().map(|definition| {
        let name = definition["name"].as_str().unwrap_or_default().to_owned();
        let is_long = [
            "search_files",
            "directory_tree",
            "replace_in_files",
            "copy_files_batch",
            "delete_files_batch",
            "compare_directories",
            "read_multiple_files",
        ];
        let lane = if is_long.contains(&name.as_str()) { Lane::Long } else { Lane::Quick };
        Tool {
            name,
            title: String::new(),
            description: String::new(),
            input: Value::Null,
            output: None,
            hints: Hints::READ,
            lane,
            meta: None,
        }
    });
    let mut tools: Vec<Tool> = listed.collect();
    if !profile.is_plain() {
        tools.push(Tool { name: "read_file".to_owned(), ..tools[0].clone() });
    }
    tools
}

/// Adds to a tool of the reference what it can do here.
fn widen(tool: &mut Value) {
    let name = tool["name"].as_str().unwrap_or_default().to_owned();
    let text = |about: &str| json!({"type": "string", "description": about});
    let count = |about: &str| json!({"type": "integer", "minimum": 0, "description": about});
    let flag = |about: &str| json!({"type": "boolean", "description": about});
    let if_match = || text("blake3 that the file must have, as reads give it, or \"absent\"");
    let tx = || text("transaction to stage this in");
    let more = match name.as_str() {
        "read_text_file" => json!({
            "offset": count("first line, from 1"), "limit": count("number of lines"),
            "line_numbers": flag("number each line"), "max_bytes": count("cut at a line end before this size"),
            "encoding": text("such as windows-1252; found out without it"),
            "if_none_match": text("blake3 you have: an unchanged file is not sent again"),
        }),
        "write_file" => json!({
            "if_match": if_match(), "create_only": flag("fail when it exists"), "create_parents": flag("make its folders"),
            "eol": {"type": "string", "enum": ["lf", "crlf", "keep"]}, "encoding": text("utf-8 without it"),
            "mode": text("octal, such as 755"), "dry_run": flag("only show the diff"), "tx": tx(),
        }),
        "edit_file" => json!({
            "if_match": if_match(), "match": {"type": "string", "enum": ["whitespace", "exact", "auto"]}, "tx": tx(),
        }),
        "move_file" => json!({"overwrite": flag("replace a file that is there")}),
        "directory_tree" => json!({
            "maxDepth": count("folders inside each other"), "maxEntries": count("names in all"),
        }),
        "list_directory" => json!({"limit": count("names at once"), "cursor": text("from the reply before")}),
        "read_multiple_files" => json!({"max_total_bytes": count("text in all")}),
        _ => json!({}),
    };
    if let (Some(all), Value::Object(more)) = (tool["inputSchema"]["properties"].as_object_mut(), more) {
        all.extend(more);
    }
    if name == "edit_file" {
        tool["inputSchema"]["properties"]["edits"]["items"]["properties"] = edit_properties();
    }
    if let Some(tool) = tool.as_object_mut() {
        // What comes structured differs from tool to tool; the text is not sent twice.
        tool.remove("outputSchema");
        tool.remove("execution");
    }
    if let Some(input) = tool["inputSchema"].as_object_mut() {
        input.remove("$schema");
    }
}

fn edit_properties() -> Value {
    json!({
        "oldText": {"type": "string", "description": "Text to search for - must match exactly"},
        "newText": {"type": "string", "description": "Text to replace with"},
        "occurrence": {"type": "integer", "minimum": 1, "description": "which of several places"},
        "replaceAll": {"type": "boolean"},
        "expected_count": {"type": "integer", "minimum": 0},
        "near_line": {"type": "integer", "minimum": 1},
    })
}

/// A tool whose calls are quick, by its parameters.
pub fn tool(
    name: &str,
    title: &str,
    about: &str,
    hints: Hints,
    required: &[&str],
    properties: Value,
) -> Tool {
    Tool {
        name: name.to_owned(),
        title: title.to_owned(),
        description: about.to_owned(),
        input: json!({"type": "object", "properties": properties, "required": required}),
        output: None,
        hints,
        lane: Lane::Quick,
        meta: None,
    }
}

fn editing() -> Vec<Tool> {
    let text = || json!({"type": "string"});
    let flag = || json!({"type": "boolean"});
    let count = || json!({"type": "integer", "minimum": 0});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let mut edit = edit_properties();
    if let Some(edit) = edit.as_object_mut() {
        edit.insert("path".to_owned(), text());
        edit.insert("if_match".to_owned(), text());
    }
    vec![
        tool(
            "edit_files",
            "Edit Files",
            "Replace texts in several files, all or nothing: when one edit does not fit, no file changes.",
            Hints::DESTROY,
            &["edits"],
            json!({
                "edits": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": edit, "required": ["path", "oldText", "newText"]}},
                "match": {"type": "string", "enum": ["whitespace", "exact", "auto"]},
                "dry_run": flag(), "tx": text(), "checks": texts(),
            }),
        ),
        tool(
            "apply_patch",
            "Apply Patch",
            "Apply a patch of many files, all or nothing: Codex (*** Begin Patch), unified diff, or SEARCH/REPLACE blocks.",
            Hints::DESTROY,
            &["patch"],
            json!({
                "patch": text(), "format": {"type": "string", "enum": ["auto", "codex", "unified", "search_replace"]},
                "strip": count(), "dry_run": flag(), "tx": text(), "checks": texts(),
            }),
        ),
        tool(
            "replace_in_files",
            "Replace in Files",
            "Replace a text or a regex in many files, all or nothing. dry_run lists places with ids; occurrence_ids picks some.",
            Hints::DESTROY,
            &["needle", "replacement"],
            json!({
                "needle": text(), "replacement": text(), "path": text(), "regex": flag(), "ignore_case": flag(),
                "globs": texts(), "exclude": texts(), "expected_count": count(), "occurrence_ids": texts(), "dry_run": flag(),
            }),
        ),
    ]
}

fn taking_back() -> Vec<Tool> {
    let text = || json!({"type": "string"});
    let flag = || json!({"type": "boolean"});
    let count = || json!({"type": "integer", "minimum": 0});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    vec![
        tool(
            "undo",
            "Undo",
            "Take back an operation by its id, or the last ones. Refuses to overwrite later changes unless force. Can be undone itself.",
            Hints::DESTROY,
            &[],
            json!({"op": text(), "steps": {"type": "integer", "minimum": 1}, "paths": texts(), "force": flag(), "dry_run": flag()}),
        ),
        tool(
            "history",
            "History",
            "List operations made through this server, newest first, with their ids for undo.",
            Hints::READ,
            &[],
            json!({"path": text(), "limit": count(), "cursor": text()}),
        ),
        tool(
            "tx_begin",
            "Begin Transaction",
            "Begin a transaction: edits with its id are staged, seen by nobody, and made all at once by tx_commit.",
            Hints::ADD,
            &[],
            json!({"label": text(), "ttl_s": count()}),
        ),
        tool(
            "tx_diff",
            "Show Transaction",
            "Show what a transaction would change.",
            Hints::READ,
            &["tx"],
            json!({"tx": text()}),
        ),
        tool(
            "tx_commit",
            "Commit Transaction",
            "Make all changes of a transaction, all or nothing. Fails when others changed its files, unless merge3 fits.",
            Hints::DESTROY,
            &["tx"],
            json!({"tx": text(), "on_conflict": {"type": "string", "enum": ["fail", "merge3"]}, "checks": texts()}),
        ),
        tool(
            "tx_rollback",
            "Roll Back Transaction",
            "Forget a transaction.",
            Hints::DESTROY,
            &["tx"],
            json!({"tx": text()}),
        ),
    ]
}

fn massgen() -> Vec<Tool> {
    let text = || json!({"type": "string"});
    let texts = || json!({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}], "default": null});
    let flag = || json!({"type": "boolean", "default": false});
    vec![
        tool(
            "copy_file",
            "Copy File",
            "Copy a file or a folder inside the workspace, without sending its content.",
            Hints::DESTROY,
            &["source_path", "destination_path"],
            json!({"source_path": text(), "destination_path": text(), "overwrite": flag()}),
        ),
        tool(
            "copy_files_batch",
            "Copy Files",
            "Copy files that match patterns from one folder to another, all or nothing.",
            Hints::DESTROY,
            &["source_base_path"],
            json!({
                "source_base_path": text(), "destination_base_path": {"type": "string", "default": ""},
                "include_patterns": texts(), "exclude_patterns": texts(), "overwrite": flag(),
            }),
        ),
        tool(
            "delete_file",
            "Delete File",
            "Delete a file, or with recursive a folder. It must have been read first; undo brings it back.",
            Hints::DESTROY,
            &["path"],
            json!({"path": text(), "recursive": flag(), "force": flag()}),
        ),
        tool(
            "delete_files_batch",
            "Delete Files",
            "Delete files that match patterns, all or nothing; undo brings them back.",
            Hints::DESTROY,
            &["base_path"],
            json!({"base_path": text(), "include_patterns": texts(), "exclude_patterns": texts(), "force": flag()}),
        ),
        tool(
            "compare_directories",
            "Compare Folders",
            "Compare two folders with all below them, by content.",
            Hints::READ,
            &["dir1", "dir2"],
            json!({"dir1": text(), "dir2": text(), "show_content_diff": flag()}),
        ),
        tool(
            "compare_files",
            "Compare Files",
            "Show the difference of two text files.",
            Hints::READ,
            &["file1", "file2"],
            json!({"file1": text(), "file2": text(), "context_lines": {"type": "integer", "default": 3}}),
        ),
    ]
}

/// A map of one key.
pub fn meta(entries: &[(&str, Value)]) -> Option<Map<String, Value>> {
    let found = entries.iter().filter(|(_, value)| !value.is_null());
    let map: Map<String, Value> = found.map(|(key, value)| (format!("cuddy/{key}"), value.clone())).collect();
    (!map.is_empty()).then_some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_lists_tools_that_a_model_can_afford() {
        let bytes = |profile| serde_json::to_string(&definitions(profile)).unwrap().len();
        assert_eq!(definitions(Profile::Compat).len(), 14);
        assert!(bytes(Profile::Core) <= 14 << 10, "{}", bytes(Profile::Core));
        assert!(bytes(Profile::Full) <= 20 << 10, "{}", bytes(Profile::Full));
        for tool in definitions(Profile::Full) {
            assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
            assert!(tool["description"].as_str().unwrap().len() > 10);
        }
        for tool in editing().iter().chain(&taking_back()).chain(&massgen()) {
            assert!(tool.description.len() <= 140, "{}", tool.name);
        }
    }
}
