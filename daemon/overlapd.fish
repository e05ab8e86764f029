# SPDX-License-Identifier: Apache-2.0
# Completion of overlapd's command line, for fish.

# Behind "--" is another command.
function __overlapd_has_command
    contains -- -- (commandline --current-process --tokenize --cut-at-cursor)
end

# What stands there of that command.
function __overlapd_command
    set -l tokens (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token)
    set -l at (contains --index -- -- $tokens)
    string join ' ' -- (string escape -- $tokens[(math $at + 1)..-2]) $tokens[-1]
end

complete -c overlapd -f
complete -c overlapd -n __overlapd_has_command -a '(complete -C (__overlapd_command))'
complete -c overlapd -n 'not __overlapd_has_command' -l socket -r -F -d 'Where clients connect'
complete -c overlapd -n 'not __overlapd_has_command' -l engine -x -a 'auto uring epoll' -d 'What performs the I/O'
complete -c overlapd -n 'not __overlapd_has_command' -l workers -x -d 'Processes that serve, 1 to 64'
complete -c overlapd -n 'not __overlapd_has_command' -l log -x -a 'journal stderr' -d 'Where lines are written'
complete -c overlapd -n 'not __overlapd_has_command' -l poll-us -x -d 'Microseconds to look for work before sleeping'
complete -c overlapd -n 'not __overlapd_has_command' -l policy -x -a 'system own (__fish_complete_directories)' -d 'Whose rules hold'
complete -c overlapd -n 'not __overlapd_has_command' -l config -r -F -d 'Settings'
complete -c overlapd -n 'not __overlapd_has_command' -l check-config -d 'Read the settings, say OK or what is wrong'
complete -c overlapd -n 'not __overlapd_has_command' -l private -d 'Run a command with a daemon of its own'
complete -c overlapd -n 'not __overlapd_has_command' -l version -d 'Say which version this is'
complete -c overlapd -n 'not __overlapd_has_command' -l help -d 'Say what options there are'
