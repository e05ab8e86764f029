# SPDX-License-Identifier: Apache-2.0
# Completion of overlapctl's command line, for fish.

set -l verbs config doctor list log metrics ping policy status top

function __overlapctl_units
    systemctl list-units --plain --no-legend --full 2>/dev/null | string split --fields 1 ' '
end

complete -c overlapctl -f
complete -c overlapctl -n "not __fish_seen_subcommand_from $verbs" -a "$verbs"
complete -c overlapctl -l admin -r -F -d 'Where administrators connect'
complete -c overlapctl -l socket -r -F -d 'Where clients connect'
complete -c overlapctl -l json -d 'One JSON document'
complete -c overlapctl -l quiet -d 'Nothing but errors and the exit status'
complete -c overlapctl -l version -d 'Say which version this is'
complete -c overlapctl -l help -d 'Say what there is'

complete -c overlapctl -n '__fish_seen_subcommand_from config' -a cat
complete -c overlapctl -n '__fish_seen_subcommand_from list' -a 'sessions sockets ops ports threads quotas'
complete -c overlapctl -n '__fish_seen_subcommand_from list log' -l session -x -d 'Of this session only'
complete -c overlapctl -n '__fish_seen_subcommand_from list' -l limit -x -d 'At most so many'
complete -c overlapctl -n '__fish_seen_subcommand_from list log policy' -l user -x -a '(__fish_complete_users)' -d 'Of this user'
complete -c overlapctl -n '__fish_seen_subcommand_from list log policy' -l unit -x -a '(__overlapctl_units)' -d 'Of this unit'

complete -c overlapctl -n '__fish_seen_subcommand_from policy' -a 'test connect listen sendto resolve export tcp udp unix'
complete -c overlapctl -n '__fish_seen_subcommand_from policy' -l group -x -a '(__fish_complete_groups)' -d 'Of this group'
complete -c overlapctl -n '__fish_seen_subcommand_from policy' -l cgroup -x -d 'In this control group'
complete -c overlapctl -n '__fish_seen_subcommand_from policy' -l private-network -d 'In another network namespace'

complete -c overlapctl -n '__fish_seen_subcommand_from ping' -s c -l count -x -d 'Round trips of each kind'
complete -c overlapctl -n '__fish_seen_subcommand_from ping' -s i -l interval -x -d 'Pause before each'

complete -c overlapctl -n '__fish_seen_subcommand_from top' -s b -l batch -d 'Tables instead of a screen'
complete -c overlapctl -n '__fish_seen_subcommand_from top' -s n -l iterations -x -d 'End after so many tables'
complete -c overlapctl -n '__fish_seen_subcommand_from top' -s d -l delay -x -d 'Seconds between two looks'
complete -c overlapctl -n '__fish_seen_subcommand_from top' -s o -l sort -x -a 'bytes ops received sent sockets in-flight age' -d 'The greatest first'

complete -c overlapctl -n '__fish_seen_subcommand_from log' -s f -l follow -d 'Go on with what comes'
complete -c overlapctl -n '__fish_seen_subcommand_from log' -s n -l lines -x -d 'The last so many lines, or all'
complete -c overlapctl -n '__fish_seen_subcommand_from log' -s S -l since -x -d 'Not what is older'
complete -c overlapctl -n '__fish_seen_subcommand_from log' -s U -l until -x -d 'Not what is newer'
complete -c overlapctl -n '__fish_seen_subcommand_from log' -s r -l refused -d 'What was refused'
complete -c overlapctl -n '__fish_seen_subcommand_from log' -s D -l directory -r -F -d 'Of these files'
complete -c overlapctl -n '__fish_seen_subcommand_from log' -l file -r -F -d 'Of this file'
complete -c overlapctl -n '__fish_seen_subcommand_from log' -l own -d 'Of this user\'s own service'
complete -c overlapctl -n '__fish_seen_subcommand_from log' -l any -d 'Of any daemon'
