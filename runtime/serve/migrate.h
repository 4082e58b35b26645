/* A new placement for a model that is in use. */
#ifndef MOERUN_SERVE_MIGRATE_H
#define MOERUN_SERVE_MIGRATE_H

#include "runtime/decoder/session.h"

/* [collective] Between two steps: moves experts so that the model is placed by
 * `placement` (the same on all ranks), which is borrowed from now on in place
 * of the old one. No output changes in any bit. Layers that are placed as
 * before are not touched; at most one layer's experts are held twice meanwhile.
 * The session must be the model's only one (others compute with the same
 * weights, which are locked for their devices) and have room for the new slots
 * (moerun__session_extra.max_slots). *moved: experts that came to this rank.
 * After ERR_SHAPE, ERR_INVALID and ERR_OVERFLOW nothing has changed; after
 * another error the model can only be destroyed. */
moerun_status moerun__session_replace(moerun_session *session,
                                      moerun_model *model,
                                      const moerun_placement *placement,
                                      int64_t *moved);

#endif
