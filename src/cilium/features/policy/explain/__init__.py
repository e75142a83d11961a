"""What policies say about one connection, and why: the plain reading of the rules, for people.

In: policy objects as the engine compiles them (`resolved-policies`), two parties, one kind of traffic. Out: the
verdict of each direction with the rules that decided, those that nearly match and what they lack.

Nothing here is compiled, cached or shared with the compiler: two readings of the same rules that agree are worth more
than one. Pure functions; `cilium policy` gathers the objects, no agent is asked.
"""
