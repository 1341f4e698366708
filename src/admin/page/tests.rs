use super::*;

#[test]
fn every_file_that_the_page_names_is_there_and_none_is_of_another_host() {
    let known: Vec<String> = FILES.iter().map(|file| format!("/page/{}", file.name)).collect();
    let mut named = 0;
    let own = FILES.iter().filter(|file| !file.name.starts_with("uplot"));
    for File { name, content, .. } in own.chain([&INDEX]) {
        for quoted in content.split('"') {
            if quoted.starts_with("/page/") {
                assert!(known.iter().any(|known| known == quoted), "{name}: {quoted}");
                named += 1;
            }
            if let Some(module) = quoted.strip_prefix("./") {
                assert!(FILES.iter().any(|file| file.name == module), "{name}: {module}");
                named += 1;
            }
        }
        for before in ["src=\"", "href=\"", "from \"", "import \"", "import(", "fetch(\"", "url(", "@import"]
        {
            for behind in content.split(before).skip(1) {
                assert!(
                    !behind.starts_with("http") && !behind.starts_with("//"),
                    "{name}: {before}{behind:.20}"
                );
            }
        }
    }
    assert!(named > FILES.len(), "they are found: {named}");
}

#[test]
fn nothing_in_the_page_needs_what_its_policy_forbids() {
    for forbidden in ["<style", " style=", "<script>", " onclick=", " onload=", "javascript:"] {
        assert!(!INDEX.content.contains(forbidden), "{forbidden}");
    }
    for File { name, content, .. } in FILES.iter().filter(|file| file.kind == SCRIPT) {
        for forbidden in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
        {
            assert!(!content.contains(forbidden), "{name}: {forbidden}");
        }
    }
    assert!(!POLICY.contains("unsafe"), "{POLICY}");
}

#[test]
fn the_library_comes_with_its_licence() {
    let licence = FILES.iter().find(|file| file.name == "uplot-license.txt").unwrap();
    assert!(
        licence.content.contains("MIT License") || licence.content.contains("Permission is hereby granted")
    );
}
