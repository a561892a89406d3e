//! Exit codes: what a caller learns without reading a word.

use crate::harness::Host;

#[test]
fn a_command_s_own_exit_code_is_ours() {
    let host = Host::new();
    for code in [0, 1, 42, 124, 125, 126, 127, 255] {
        let ended = host.probe(&[], &["exit", &code.to_string()]).exits(code);
        assert_eq!(
            (ended.text(), ended.stderr),
            (String::new(), String::new()),
            "exit {code} prints nothing"
        );
    }
    assert_eq!(host.containers(), [""; 0], "nothing is left behind");
}
