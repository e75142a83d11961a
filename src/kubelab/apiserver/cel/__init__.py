"""CEL, the language of validation rules and admission policies (docs/adr/0029-cel.md).

environment  expressions, compiled and evaluated; errors in the words of Kubernetes
lists        functions of Kubernetes on lists, sets, texts, URLs
numbers      quantities and versions
addresses    IP addresses and CIDRs
rights       the `authorizer` of policies
values       JSON as CEL sees it by its schema
rules        x-kubernetes-validations of CRDs
"""
