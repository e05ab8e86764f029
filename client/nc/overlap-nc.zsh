#compdef overlap-nc
# SPDX-License-Identifier: Apache-2.0
# Completion of overlap-nc's command line, for zsh.

local what='_hosts'
(( ${words[(I)(-*U*|--unix)]} )) && what='_files'

_arguments -s \
  '(-l --listen)'{-l,--listen}'[wait for a connection instead of making one]' \
  '(-k --keep)'{-k,--keep}'[after a connection wait for the next one]' \
  '(-u --udp)'{-u,--udp}'[datagrams]' \
  '(-U --unix)'{-U,--unix}'[Unix sockets]' \
  '(-4 --ipv4 -6 --ipv6)'{-4,--ipv4}'[IPv4 only]' \
  '(-4 --ipv4 -6 --ipv6)'{-6,--ipv6}'[IPv6 only]' \
  '(-n --numeric)'{-n,--numeric}'[hosts and ports are numbers]' \
  '(-s --source)'{-s+,--source=}'[send from this address]:address:'$what \
  '(-p --source-port)'{-p+,--source-port=}'[send from this port, or wait on it]:port:_ports' \
  '(-N --shutdown)'{-N,--shutdown}'[the end of standard input ends the sending]' \
  '(-q --quit)'{-q+,--quit=}'[end so long after the end of standard input]:seconds: ' \
  '(-d --no-input)'{-d,--no-input}'[do not read standard input]' \
  '(-w --timeout)'{-w+,--timeout=}'[give up after so long]:seconds: ' \
  '(-z --probe)'{-z,--probe}'[connect, transfer nothing, say what was found]' \
  '--local=[accept connections on this Unix socket or port]:socket or port:_files' \
  '--socket=[of overlapd]:socket:_files' \
  '(-v --verbose)'{-v,--verbose}'[say what happens]' \
  '(- *)'{-V,--version}'[say which version this is]' \
  '(- *)'{-h,--help}'[say what options there are]' \
  '1:host, port or path:'$what \
  '2:port:_ports'
