# SPDX-License-Identifier: Apache-2.0
# Completion of overlap-nc's command line, for fish.

function __overlap_nc_is_unix
    string match --quiet --regex -- '^(--unix|-[a-zA-Z46]*U[a-zA-Z46]*)$' (commandline --current-process --tokenize --cut-at-cursor)
end

complete -c overlap-nc -f
complete -c overlap-nc -n __overlap_nc_is_unix -F
complete -c overlap-nc -n 'not __overlap_nc_is_unix' -a '(__fish_print_hostnames)'
complete -c overlap-nc -s l -l listen -d 'Wait for a connection instead of making one'
complete -c overlap-nc -s k -l keep -d 'After a connection wait for the next one'
complete -c overlap-nc -s u -l udp -d Datagrams
complete -c overlap-nc -s U -l unix -d 'Unix sockets'
complete -c overlap-nc -s 4 -l ipv4 -d 'IPv4 only'
complete -c overlap-nc -s 6 -l ipv6 -d 'IPv6 only'
complete -c overlap-nc -s n -l numeric -d 'Hosts and ports are numbers'
complete -c overlap-nc -s s -l source -x -d 'Send from this address'
complete -c overlap-nc -s p -l source-port -x -d 'Send from this port, or wait on it'
complete -c overlap-nc -s N -l shutdown -d 'The end of standard input ends the sending'
complete -c overlap-nc -s q -l quit -x -d 'End so many seconds after the end of standard input'
complete -c overlap-nc -s d -l no-input -d 'Do not read standard input'
complete -c overlap-nc -s w -l timeout -x -d 'Give up after so many seconds'
complete -c overlap-nc -s z -l probe -d 'Connect, transfer nothing, say what was found'
complete -c overlap-nc -l local -r -F -d 'Accept connections on this Unix socket or port'
complete -c overlap-nc -l socket -r -F -d 'Of overlapd'
complete -c overlap-nc -s v -l verbose -d 'Say what happens'
complete -c overlap-nc -s V -l version -d 'Say which version this is'
complete -c overlap-nc -s h -l help -d 'Say what options there are'
