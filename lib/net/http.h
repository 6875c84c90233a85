/* placeholder until written */
#include "lib/base/status.h"
enum status http_global_init(struct fail *why);
